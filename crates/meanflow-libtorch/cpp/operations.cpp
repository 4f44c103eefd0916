// Operations that libtorch has and tch does not bind.
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Context.h>
#include <ATen/ops/_foreach_lerp.h>
#include <ATen/ops/_foreach_norm.h>
#include <ATen/ops/_fused_adam.h>
#include <ATen/ops/_fused_adamw.h>
#include <ATen/ops/native_group_norm_backward.h>
#include <ATen/ops/native_layer_norm_backward.h>
#include <ATen/ops/where.h>
#include <torch/csrc/autograd/forward_grad.h>

#include <cstdint>
#include <utility>
#include <vector>

#include "cuda/programs.h"
#include "guarded.h"

namespace {

std::vector<at::Tensor> list(const Handle* handles, size_t count) {
  std::vector<at::Tensor> tensors;
  tensors.reserve(count);
  for (size_t i = 0; i < count; ++i) tensors.push_back(*handles[i]);
  return tensors;
}

// What a kernel of libtorch reads beside the input, of which it does not look at the size.
void expect_statistics(const at::Tensor& input, const at::Tensor& grad, int64_t count, const at::Tensor& mean,
                       const at::Tensor& rstd) {
  TORCH_CHECK(input.defined() && grad.defined() && mean.defined() && rstd.defined(), "expected tensors, got none");
  TORCH_CHECK(grad.sizes() == input.sizes(), "expected a gradient ", input.sizes(), ", got ", grad.sizes());
  TORCH_CHECK(mean.numel() == count && rstd.numel() == count, "expected ", count, " means and deviations, got ",
              mean.numel(), " and ", rstd.numel());
}

// Of every list of Adam as many numbers a parameter, which libtorch's kernels for the CPU take for granted.
void expect_like(const std::vector<at::Tensor>& parameters, const std::vector<at::Tensor>& others, const char* what) {
  for (size_t i = 0; i < parameters.size(); ++i) {
    TORCH_CHECK(parameters[i].defined() && others[i].defined(), "expected a tensor, got none among the ", what);
    TORCH_CHECK(others[i].sizes() == parameters[i].sizes() && others[i].scalar_type() == parameters[i].scalar_type(),
                "expected ", what, " as their parameters, ", parameters[i].sizes(), ", got ", others[i].sizes());
  }
}

void expect_scalar(const at::Tensor& number, const char* what) {
  TORCH_CHECK(number.defined() && number.numel() == 1 && number.scalar_type() == at::kFloat, "expected ", what,
              ": one number of f32");
}

}  // namespace

MF_EXPORT(mf_level_enter, (uint64_t* level), { *level = torch::autograd::ForwardADLevel::get_next_idx(); })

MF_EXPORT(mf_level_exit, (uint64_t level), { torch::autograd::ForwardADLevel::release_idx(level); })

// The gradient of a layer norm without affine part with respect to its input.
MF_EXPORT(mf_layer_norm_backward, (Handle out, Handle grad, Handle input, Handle mean, Handle rstd), {
  TORCH_CHECK(input->defined() && input->dim() > 0, "expected rows of numbers");
  const int64_t width = input->size(-1);
  expect_statistics(*input, *grad, input->numel() / std::max<int64_t>(width, 1), *mean, *rstd);
  auto result = at::native_layer_norm_backward(*grad, *input, {width}, *mean, *rstd, {}, {}, {true, false, false});
  *out = std::get<0>(result);
})

// The gradient of a group norm without affine part with respect to its input, [n, c, positions…].
MF_EXPORT(mf_group_norm_backward, (Handle out, Handle grad, Handle input, Handle mean, Handle rstd, int64_t groups), {
  TORCH_CHECK(input->defined() && input->dim() >= 2, "expected [n, c, …]");
  const int64_t n = input->size(0), c = input->size(1);
  expect_statistics(*input, *grad, n * groups, *mean, *rstd);
  const int64_t positions = n * c == 0 ? 0 : input->numel() / (n * c);
  auto result = at::native_group_norm_backward(*grad, *input, *mean, *rstd, {}, n, c, positions, groups,
                                               {true, false, false});
  *out = std::get<0>(result);
})

// Sets every element to 1 with this probability and to 0 otherwise, from a generator of its own.
MF_EXPORT(mf_fill_bernoulli, (Handle tensor, double probability, uint64_t seed), {
  auto device = tensor->device();
  auto generator = device.is_cpu()
                       ? at::detail::createCPUGenerator(seed)
                       : at::globalContext().getAcceleratorHooksInterface(device.type()).getNewGenerator(device.index());
  generator.set_current_seed(seed);
  tensor->bernoulli_(probability, generator);
})

// One step of Adam (decoupled weight decay: AdamW) over all parameters in one pass over memory.
MF_EXPORT(mf_fused_adam,
          (const Handle* parameters, const Handle* gradients, const Handle* first, const Handle* second,
           const Handle* steps, size_t count, const at::Tensor* rate, double beta1, double beta2, double weight_decay,
           double epsilon, bool decoupled, const at::Tensor* skip),
          {
            auto self = list(parameters, count), grads = list(gradients, count);
            auto m = list(first, count), v = list(second, count), t = list(steps, count);
            expect_like(self, grads, "gradients");
            expect_like(self, m, "first moments");
            expect_like(self, v, "second moments");
            for (auto& step : t) expect_scalar(step, "a count of steps");
            expect_scalar(*rate, "a rate");
            auto skipped = skip ? std::make_optional(*skip) : std::nullopt;
            if (skipped) expect_scalar(*skipped, "whether to skip");
            std::vector<at::Tensor> none;
            auto update = [&](auto&& rate) {
              auto kernel = [&](auto&& adam) {
                adam(self, grads, m, v, none, t, rate, beta1, beta2, weight_decay, epsilon, false, false, std::nullopt,
                     skipped);
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
          })

namespace {

// The same where all of it is f32 on one CUDA device, in one pass over each pair; whether it was.
bool updated_on_cuda(const std::vector<at::Tensor>& e, const std::vector<at::Tensor>& p, const at::Tensor& weight,
                     const at::Tensor& is_finite) {
  const auto fits = [&](const at::Tensor& tensor) {
    return tensor.is_cuda() && tensor.device() == weight.device() && tensor.scalar_type() == at::kFloat;
  };
  if (!fits(weight) || is_finite.device() != weight.device()) return false;
  for (size_t i = 0; i < e.size(); ++i) {
    if (!fits(e[i]) || !fits(p[i]) || !e[i].is_contiguous() || !p[i].is_contiguous()) return false;
  }
  constexpr int64_t warps = 8, of_block = 32 * warps * 4, most = 2112;
  auto& program = mf::cuda::program(weight.device().index(), mf::cuda::Subject::matrices);
  for (size_t i = 0; i < e.size(); ++i) {
    const int64_t blocks = std::min((e[i].numel() + of_block - 1) / of_block, most);
    program.run("ema_update", weight.device(), blocks, unsigned(warps), (long long)e[i].numel(), e[i].mutable_data_ptr(),
                p[i].const_data_ptr(), weight.const_data_ptr(), is_finite.const_data_ptr());
    e[i].unsafeGetTensorImpl()->bump_version();
  }
  return true;
}

}  // namespace

// e := e + weight (p − e) for every pair of an average and a parameter, unless is_finite, a boolean, says no; then an average
// stays, whatever the parameters are.
MF_EXPORT(mf_ema_update,
          (const Handle* averages, const Handle* parameters, size_t count, const at::Tensor* weight,
           const at::Tensor* is_finite, bool cuda_kernels),
          {
            auto e = list(averages, count), p = list(parameters, count);
            expect_like(e, p, "parameters");
            TORCH_CHECK(is_finite->defined() && is_finite->numel() == 1 && is_finite->scalar_type() == at::kBool,
                        "expected whether the step is finite: one boolean");
            TORCH_CHECK(weight->defined() && weight->numel() == 1, "expected a weight: one number");
            // Where the device is the host, both are at hand.
            if (is_finite->is_cpu() && weight->is_cpu()) {
              TORCH_CHECK(weight->scalar_type() == at::kFloat || weight->scalar_type() == at::kDouble,
                          "expected a weight of f32 or f64, got ", weight->scalar_type());
              const double step = weight->scalar_type() == at::kDouble ? *weight->const_data_ptr<double>()
                                                                       : *weight->const_data_ptr<float>();
              if (*is_finite->const_data_ptr<bool>()) at::_foreach_lerp_(e, p, step);
            } else if (!cuda_kernels || !updated_on_cuda(e, p, *weight, *is_finite)) {
              for (size_t i = 0; i < count; ++i) e[i].lerp_(at::where(*is_finite, p[i], e[i]), *weight);
            }
          })

// The Euclidean norm of every tensor, in a few passes over all of them where the device has many processors.
MF_EXPORT(mf_norms, (const Handle* out, const Handle* tensors, size_t count), {
  const auto all = list(tensors, count);
  for (const auto& tensor : all) TORCH_CHECK(tensor.defined(), "expected a tensor, got none");
  if (count == 0) return;
  auto norms = at::_foreach_norm(all, 2);
  for (size_t i = 0; i < count; ++i) *out[i] = std::move(norms[i]);
})

// Moves the gradient of every parameter out of it; undefined where it has none.
MF_EXPORT(mf_take_gradients, (const Handle* out, const Handle* parameters, size_t count), {
  for (size_t i = 0; i < count; ++i) *out[i] = std::exchange(parameters[i]->mutable_grad(), at::Tensor());
})
