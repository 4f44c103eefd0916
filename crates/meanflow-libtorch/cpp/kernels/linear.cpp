// The affine map on the tape: of few rows by a kernel of our own, of many through oneDNN.
#include "linear.h"

#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/mm.h>

#include "operation.h"

using mf::Affine;

#define MF_KERNELS(T)                                                                                                \
  MF_KERNEL(T, panels, (Affine<T> map, const T* x, T* to), map, x, to)                                               \
  MF_KERNEL(T, affine_panels, (Affine<T> map, const T* x, T* y, int64_t begin, int64_t end), map, x, y, begin, end) \
  MF_KERNEL(T, affine_rows, (Affine<T> map, const T* x, T* y, int64_t begin, int64_t end), map, x, y, begin, end)

namespace {

MF_KERNELS(float)

// oneDNN's matrix product, where this libtorch has it: faster than the one behind at::linear on processors for which
// that one was not made.
Tensor onednn_linear(const Tensor& x, const Tensor& weight, const std::optional<Tensor>& bias) {
  using Signature = Tensor(const Tensor&, const Tensor&, const std::optional<Tensor>&, std::string_view,
                           c10::List<std::optional<at::Scalar>>, std::optional<std::string_view>);
  static const auto operation =
      c10::Dispatcher::singleton().findSchemaOrThrow("mkldnn::_linear_pointwise", "").typed<Signature>();
  // It has no derivative that libtorch's own tape would look for.
  const at::AutoDispatchBelowADInplaceOrView below;
  return operation.call(x, weight, bias, "none", c10::List<std::optional<at::Scalar>>(), "");
}

// Fewer rows than this are taken as they are, without panels.
constexpr int64_t FEW = 5;
// From here on oneDNN is about as fast: within a tenth at 256 rows, ahead at 1024.
constexpr int64_t MANY = 65;

// Whether the kernel's sums fit into this processor's registers.
bool wide() {
#if defined(__x86_64__)
  static const bool found = __builtin_cpu_supports("avx512f");
  return found;
#else
  return false;
#endif
}

Tensor own_linear(const Tensor& x, const Tensor& weight, const std::optional<Tensor>& bias) {
  TORCH_CHECK(x.size(-1) == weight.size(1) && (!bias || bias->numel() == weight.size(0)), "expected rows of ",
              weight.size(1), " numbers, got ", x.sizes());
  auto size = x.sizes().vec();
  size.back() = weight.size(0);
  auto y = at::empty(size, x.options());
  const Affine<float> map{x.numel() / weight.size(1), weight.size(1), weight.size(0), weight.const_data_ptr<float>(),
                          bias ? bias->const_data_ptr<float>() : nullptr};
  const float* from = x.const_data_ptr<float>();
  float* to = y.mutable_data_ptr<float>();
  constexpr int64_t lanes = mf::Lanes<float>::width;
  const int64_t tiles = (map.outputs + lanes - 1) / lanes;
  if (map.rows < FEW) {
    mf::parallel(tiles, map.rows * map.inputs * 2,
                 [=](int64_t begin, int64_t end) { affine_rows_range(map, from, to, begin, end); });
    return y;
  }
  const int64_t rows = (map.rows + lanes - 1) / lanes * lanes;
  auto turned = at::empty({rows * map.inputs}, x.options());
  float* panels = turned.mutable_data_ptr<float>();
  panels_range(map, from, panels);
  mf::parallel(tiles, rows * map.inputs,
               [=](int64_t begin, int64_t end) { affine_panels_range(map, panels, to, begin, end); });
  return y;
}

struct Linear : Function<Linear> {
  static Tensor forward(AutogradContext* context, const Tensor& x, const Tensor& weight,
                        const std::optional<Tensor>& bias) {
    context->save_for_backward({x, weight});
    context->saved_data["bias"] = bias.has_value();
    return value(x, weight, bias);
  }
  static Tensor value(const Tensor& x, const Tensor& weight, const std::optional<Tensor>& bias) {
    const bool few = x.numel() < MANY * weight.size(1) && weight.is_contiguous() && (!bias || bias->is_contiguous());
    return few && wide() ? own_linear(x.contiguous(), weight, bias) : onednn_linear(x, weight, bias);
  }
  static variable_list backward(AutogradContext* context, variable_list grads) {
    once("linear");
    const auto saved = context->get_saved_variables();
    const Tensor &x = saved[0], &weight = saved[1];
    const auto g = grads[0].contiguous();
    Tensor gx, gweight, gbias;
    const auto rows = g.reshape({-1, g.size(-1)});
    if (context->needs_input_grad(0)) gx = onednn_linear(g, weight.t(), std::nullopt);
    if (context->needs_input_grad(1)) gweight = rows.t().mm(x.reshape({-1, x.size(-1)}));
    if (context->saved_data["bias"].toBool() && context->needs_input_grad(2)) gbias = rows.sum(0);
    return {gx, gweight, gbias};
  }
};

}  // namespace

extern "C" {

char* mf_linear(Handle out, Handle x, Handle weight, Handle bias) {
  return guarded([&] {
    const auto b = bias ? std::optional<Tensor>(*bias) : std::nullopt;
    const bool tape = recorded(*x, *weight) || (b && recorded(*b));
    *out = tape ? Linear::apply(*x, *weight, b) : Linear::value(*x, *weight, b);
  });
}
}
