// What libtorch has and tch does not bind. Each function returns null, or a message to be freed with mf_free.
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Context.h>
#include <ATen/ops/_foreach_lerp.h>
#include <ATen/ops/_fused_adam.h>
#include <ATen/ops/_fused_adamw.h>
#include <ATen/ops/native_group_norm_backward.h>
#include <ATen/ops/native_layer_norm_backward.h>
#include <c10/util/Exception.h>
#include <dlfcn.h>
#include <malloc.h>
#include <torch/csrc/autograd/forward_grad.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <vector>

namespace {

using Handle = at::Tensor*;

std::vector<at::Tensor> list(const Handle* handles, size_t count) {
  std::vector<at::Tensor> tensors;
  tensors.reserve(count);
  for (size_t i = 0; i < count; ++i) tensors.push_back(*handles[i]);
  return tensors;
}

template <typename F>
char* guarded(F&& body) {
  try {
    body();
    return nullptr;
  } catch (const c10::Error& error) {
    return strdup(error.what_without_backtrace());
  } catch (const std::exception& error) {
    return strdup(error.what());
  }
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
                    const Handle* steps, size_t count, double rate, double beta1, double beta2, double weight_decay,
                    double epsilon, bool decoupled) {
  return guarded([&] {
    auto self = list(parameters, count);
    auto grads = list(gradients, count);
    auto m = list(first, count);
    auto v = list(second, count);
    std::vector<at::Tensor> none;
    auto t = list(steps, count);
    auto update = [&](auto&& kernel) {
      kernel(self, grads, m, v, none, t, rate, beta1, beta2, weight_decay, epsilon, false, false, std::nullopt,
             std::nullopt);
    };
    if (decoupled) {
      update([](auto&&... arguments) { at::_fused_adamw_(arguments...); });
    } else {
      update([](auto&&... arguments) { at::_fused_adam_(arguments...); });
    }
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

// Loads a shared library with its symbols visible to the libraries loaded before it.
char* mf_load_library(const char* path) {
  return dlopen(path, RTLD_NOW | RTLD_GLOBAL) ? nullptr : strdup(dlerror());
}
}
