// Names what libtorch's header of its Gloo groups points at: objects of these are never made, copied or read here.
#pragma once

namespace gloo::transport {

class Device;

class UnboundBuffer {
 public:
  virtual ~UnboundBuffer();
};

}  // namespace gloo::transport
