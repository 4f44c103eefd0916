// libtorch's header of its Gloo groups asks for this file and uses nothing of it.
#pragma once
