// What libtorch has and tch does not bind. Each function returns null, or a message to be freed with mf_free.
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Context.h>
#include <ATen/ops/_foreach_lerp.h>
#include <ATen/ops/_fused_adam.h>
#include <ATen/ops/_fused_adamw.h>
#include <ATen/ops/native_group_norm_backward.h>
#include <ATen/ops/native_layer_norm_backward.h>
#include <dlfcn.h>
#include <malloc.h>
#include <torch/csrc/autograd/forward_grad.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "guarded.h"

namespace {

std::vector<at::Tensor> list(const Handle* handles, size_t count) {
  std::vector<at::Tensor> tensors;
  tensors.reserve(count);
  for (size_t i = 0; i < count; ++i) tensors.push_back(*handles[i]);
  return tensors;
}

}  // namespace

extern "C" {

void mf_free(char* message) { std::free(message); }

char* mf_level_enter(uint64_t* level) {
  return guarded([&] { *level = torch::autograd::ForwardADLevel::get_next_idx(); });
}

char* mf_level_exit(uint64_t level) {
  return guarded([&] { torch::autograd::ForwardADLevel::release_idx(level); });
}

// The gradient of a layer norm without affine part with respect to its input.
char* mf_layer_norm_backward(Handle out, Handle grad, Handle input, Handle mean, Handle rstd, int64_t width) {
  return guarded([&] {
    auto result = at::native_layer_norm_backward(*grad, *input, {width}, *mean, *rstd, {}, {}, {true, false, false});
    *out = std::get<0>(result);
  });
}

// The gradient of a group norm without affine part with respect to its input, [n, c, positions…].
char* mf_group_norm_backward(Handle out, Handle grad, Handle input, Handle mean, Handle rstd, int64_t n, int64_t c,
                             int64_t positions, int64_t groups) {
  return guarded([&] {
    auto result = at::native_group_norm_backward(*grad, *input, *mean, *rstd, {}, n, c, positions, groups,
                                                 {true, false, false});
    *out = std::get<0>(result);
  });
}

// Sets every element to 1 with this probability and to 0 otherwise, from a generator of its own.
char* mf_fill_bernoulli(Handle tensor, double probability, uint64_t seed) {
  return guarded([&] {
    auto device = tensor->device();
    auto generator = device.is_cpu()
                         ? at::detail::createCPUGenerator(seed)
                         : at::globalContext().getAcceleratorHooksInterface(device.type()).getNewGenerator(device.index());
    generator.set_current_seed(seed);
    tensor->bernoulli_(probability, generator);
  });
}

// One step of Adam (decoupled weight decay: AdamW) over all parameters in one pass over memory.
char* mf_fused_adam(const Handle* parameters, const Handle* gradients, const Handle* first, const Handle* second,
                    const Handle* steps, size_t count, const at::Tensor* rate, double beta1, double beta2,
                    double weight_decay, double epsilon, bool decoupled, const at::Tensor* skip) {
  return guarded([&] {
    auto self = list(parameters, count);
    auto grads = list(gradients, count);
    auto m = list(first, count);
    auto v = list(second, count);
    std::vector<at::Tensor> none;
    auto t = list(steps, count);
    auto skipped = skip ? std::make_optional(*skip) : std::nullopt;
    auto update = [&](auto&& rate) {
      auto kernel = [&](auto&& adam) {
        adam(self, grads, m, v, none, t, rate, beta1, beta2, weight_decay, epsilon, false, false, std::nullopt, skipped);
      };
      if (decoupled) {
        kernel([](auto&&... arguments) { at::_fused_adamw_(arguments...); });
      } else {
        kernel([](auto&&... arguments) { at::_fused_adam_(arguments...); });
      }
    };
    // Where the device is the host, the number is at hand.
    if (rate->is_cpu()) {
      update(static_cast<double>(*rate->const_data_ptr<float>()));
    } else {
      update(*rate);
    }
    // Unlike other operations in place, these do not say that they have changed the parameters.
    for (auto& parameter : self) parameter.unsafeGetTensorImpl()->bump_version();
  });
}

// self := self + weight (end − self), for every pair.
char* mf_foreach_lerp(const Handle* self, const Handle* end, size_t count, double weight) {
  return guarded([&] { at::_foreach_lerp_(list(self, count), list(end, count), weight); });
}

// From now on every tensor is mapped on its own and given back when freed, so that resident memory is live memory.
void mf_map_tensors() {
  mallopt(M_MMAP_THRESHOLD, 64 << 10);
  mallopt(M_TRIM_THRESHOLD, 64 << 10);
}

// Whether matrix products and convolutions of f32 on a CUDA device may round their factors to 10 bits.
void mf_set_tf32(bool allowed) {
  at::globalContext().setAllowTF32CuBLAS(allowed);
  at::globalContext().setAllowTF32CuDNN(allowed);
}

bool mf_tf32() { return at::globalContext().allowTF32CuBLAS() && at::globalContext().allowTF32CuDNN(); }

// Loads a shared library with its symbols visible to the libraries loaded before it.
char* mf_load_library(const char* path) {
  return dlopen(path, RTLD_NOW | RTLD_GLOBAL) ? nullptr : strdup(dlerror());
}
}
