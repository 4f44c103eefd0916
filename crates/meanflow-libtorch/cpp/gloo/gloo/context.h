// Names what libtorch's header of its Gloo groups points at: an object of it is never made, copied or read here.
#pragma once

#include <chrono>

namespace gloo {

class Context {
 public:
  void setTimeout(std::chrono::milliseconds timeout);
};

}  // namespace gloo
