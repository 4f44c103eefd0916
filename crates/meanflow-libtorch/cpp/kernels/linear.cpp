// The affine map on the tape: of few rows by a kernel of our own, of many through oneDNN.
#include "linear.h"

#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/mm.h>

#include "operation.h"

using mf::Affine;

#define MF_KERNELS(T)                                                                                                \
  MF_KERNEL(T, panels, (Affine<T> map, const T* x, T* to), map, x, to)                                               \
  MF_KERNEL(T, affine_panels, (Affine<T> map, const T* x, T* y, int64_t begin, int64_t end), map, x, y, begin, end) \
  MF_KERNEL(T, affine_rows, (Affine<T> map, const T* x, T* y, int64_t begin, int64_t end), map, x, y, begin, end)

namespace {

MF_KERNELS(float)
#undef MF_KERNELS

using Operator = std::optional<c10::OperatorHandle>;

Operator find(const char* name) { return c10::Dispatcher::singleton().findSchema({name, ""}); }

// oneDNN's matrix product, where this libtorch has it: faster than at::linear on processors for which the library behind that
// one was not made. Where it has not, at::linear.
Tensor product(const Operator& onednn, const Tensor& x, const Tensor& weight, const std::optional<Tensor>& bias) {
  using Signature = Tensor(const Tensor&, const Tensor&, const std::optional<Tensor>&, std::string_view,
                           c10::List<std::optional<at::Scalar>>, std::optional<std::string_view>);
  // The first has no derivative that libtorch's own tape would look for, the second needs none here.
  const at::AutoDispatchBelowADInplaceOrView below;
  if (!onednn) return at::linear(x, weight, bias);
  return onednn->typed<Signature>().call(x, weight, bias, "none", c10::List<std::optional<at::Scalar>>(), "");
}

Tensor library_linear(const Tensor& x, const Tensor& weight, const std::optional<Tensor>& bias) {
  static const Operator found = find("mkldnn::_linear_pointwise");
  return product(found, x, weight, bias);
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
    TORCH_CHECK(weight.dim() == 2 && x.dim() > 0, "expected rows of numbers and a matrix");
    TORCH_CHECK(x.is_cpu() && weight.is_cpu() && (!bias || bias->is_cpu()), "expected numbers on the CPU");
    const bool few = x.numel() < MANY * weight.size(1) && weight.is_contiguous() && (!bias || bias->is_contiguous());
    return few && wide() ? own_linear(x.contiguous(), weight, bias) : library_linear(x, weight, bias);
  }
  static variable_list backward(AutogradContext* context, variable_list grads) {
    once("linear");
    const auto saved = context->get_saved_variables();
    const Tensor &x = saved[0], &weight = saved[1];
    const auto g = grads[0].contiguous();
    Tensor gx, gweight, gbias;
    const auto rows = g.reshape({-1, g.size(-1)});
    if (context->needs_input_grad(0)) gx = library_linear(g, weight.t(), std::nullopt);
    if (context->needs_input_grad(1)) gweight = rows.t().mm(x.reshape({-1, x.size(-1)}));
    if (context->saved_data["bias"].toBool() && context->needs_input_grad(2)) gbias = rows.sum(0);
    return {gx, gweight, gbias};
  }
};

}  // namespace

MF_EXPORT(mf_linear, (Handle out, Handle x, Handle weight, Handle bias), {
  const auto b = bias ? std::optional<Tensor>(*bias) : std::nullopt;
  const bool tape = recorded(*x, *weight) || (b && recorded(*b));
  *out = tape ? Linear::apply(*x, *weight, b) : Linear::value(*x, *weight, b);
})

// The product through an operator of this name, which the tests of what happens without one choose.
MF_EXPORT(mf_linear_by, (Handle out, Handle x, Handle weight, const char* name), {
  *out = product(find(name), *x, *weight, std::nullopt);
})
