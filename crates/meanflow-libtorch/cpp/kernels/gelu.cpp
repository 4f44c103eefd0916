// GELU on the tape, and its tangent.
#include "gelu.h"

#include "operation.h"

#define MF_KERNELS(T)                                                                  \
  MF_KERNEL(T, gelu, (const T* x, T* y, int64_t begin, int64_t end), x, y, begin, end) \
  MF_KERNEL(T, gelu_derivative, (const T* x, const T* g, T* out, int64_t begin, int64_t end), x, g, out, begin, end)

namespace {

MF_KERNELS(float)
MF_KERNELS(double)
#undef MF_KERNELS

struct Gelu : Function<Gelu> {
  static Tensor forward(AutogradContext* context, const Tensor& input) {
    const auto x = input.contiguous();
    context->save_for_backward({x});
    return value(x);
  }
  static variable_list backward(AutogradContext* context, variable_list grads) {
    once("gelu");
    return {derivative(context->get_saved_variables()[0], grads[0])};
  }
  static Tensor value(const Tensor& x) {
    TORCH_CHECK(x.defined() && x.is_cpu(), "expected numbers on the CPU");
    auto y = like(x);
    by_type(x, [&](auto zero) {
      using T = decltype(zero);
      const T* from = x.const_data_ptr<T>();
      T* to = y.mutable_data_ptr<T>();
      mf::parallel(x.numel(), 16, [=](int64_t begin, int64_t end) { gelu_range(from, to, begin, end); });
    });
    return y;
  }
  static Tensor derivative(const Tensor& x, const Tensor& above) {
    TORCH_CHECK(x.defined() && x.dim() > 0 && above.defined() && above.dim() > 0, "expected rows of numbers");
    expect_rows(x, "an input", above.size(0), above.sizes().slice(1));
    const auto g = above.contiguous();
    auto out = at::empty_like(g);
    by_type(g, [&](auto zero) {
      using T = decltype(zero);
      const T *at = x.const_data_ptr<T>(), *up = g.const_data_ptr<T>();
      T* to = out.mutable_data_ptr<T>();
      mf::parallel(g.numel(), 24, [=](int64_t begin, int64_t end) { gelu_derivative_range(at, up, to, begin, end); });
    });
    return out;
  }
};

}  // namespace

MF_EXPORT(mf_gelu, (Handle out, Handle x), { *out = recorded(*x) ? Gelu::apply(*x) : Gelu::value(x->contiguous()); })

// The first rows of x with the tangent dx.
MF_EXPORT(mf_gelu_tangent, (Handle out, Handle x, Handle dx), { *out = Gelu::derivative(x->contiguous(), *dx); })
