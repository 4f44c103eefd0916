// Devices: libtorch's CUDA part, why there is none, what a product may round, and how much memory was in use.
#include <ATen/Context.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <dlfcn.h>

#include <cstdint>

#include "guarded.h"

namespace {

c10::DeviceIndex number(int64_t device) { return static_cast<c10::DeviceIndex>(device); }

}  // namespace

// Loads a shared library with its symbols visible to the libraries loaded before it.
MF_EXPORT(mf_load_library, (const char* path), {
  if (!dlopen(path, RTLD_NOW | RTLD_GLOBAL)) {
    const char* reason = dlerror();
    TORCH_CHECK(false, reason ? reason : "dlopen gave no reason");
  }
})

// Fails, with the reason, where CUDA cannot be used.
MF_EXPORT(mf_cuda_init, (), { at::globalContext().lazyInitDevice(at::kCUDA); })

// Whether matrix products and convolutions of f32 on a CUDA device may round their factors to 10 bits.
MF_EXPORT(mf_set_tf32, (bool allowed), {
  at::globalContext().setAllowTF32CuBLAS(allowed);
  at::globalContext().setAllowTF32CuDNN(allowed);
})

MF_EXPORT(mf_tf32, (bool* products, bool* convolutions), {
  *products = at::globalContext().allowTF32CuBLAS();
  *convolutions = at::globalContext().allowTF32CuDNN();
})

// Forgets the most that tensors on a CUDA device took, and says what they take now.
MF_EXPORT(mf_device_peak_reset, (int64_t device, int64_t* bytes), {
  auto* allocator = at::getDeviceAllocator(at::kCUDA);
  allocator->resetPeakStats(number(device));
  *bytes = allocator->getDeviceStats(number(device)).allocated_bytes[0].current;
})

// The most that they took since.
MF_EXPORT(mf_device_peak, (int64_t device, int64_t* bytes), {
  *bytes = at::getDeviceAllocator(at::kCUDA)->getDeviceStats(number(device)).allocated_bytes[0].peak;
})
