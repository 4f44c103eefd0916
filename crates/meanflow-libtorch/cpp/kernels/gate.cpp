// The gated residual on the tape, and its tangent.
#include "gate.h"

#include "../cuda/fused.h"
#include "operation.h"

using mf::Modulation;
using mf::Shape;

#define MF_KERNELS(T)                                                                                                 \
  MF_KERNEL(T, add_gated, (Shape s, const T* x, Modulation<T> c, const T* y, T* out, int64_t begin, int64_t end), s,  \
            x, c, y, out, begin, end)                                                                                 \
  MF_KERNEL(T, add_gated_backward,                                                                                    \
            (Shape s, const T* g, Modulation<T> c, const T* y, T* gc, T* gy, int64_t begin, int64_t end), s, g, c, y, \
            gc, gy, begin, end)                                                                                       \
  MF_KERNEL(T, add_gated_tangent,                                                                                     \
            (Shape s, const T* dx, Modulation<T> c, Modulation<T> dc, const T* y, const T* dy, T* out, int64_t begin, \
             int64_t end),                                                                                            \
            s, dx, c, dc, y, dy, out, begin, end)

namespace {

MF_KERNELS(float)
MF_KERNELS(double)
#undef MF_KERNELS

struct AddGated : Function<AddGated> {
  static Tensor forward(AutogradContext* context, const Tensor& residual, const Tensor& gate, const Tensor& branch) {
    const auto x = residual.contiguous(), y = branch.contiguous();
    context->save_for_backward({gate, y});
    return value(x, gate, y);
  }
  static Tensor value(const Tensor& x, const Tensor& gate, const Tensor& y) {
    TORCH_CHECK(x.dim() == 3, "expected rows of sequences of numbers");
    if (x.is_cuda()) return mf::cuda::add_gated(x, gate, y);
    expect_sequences(x);
    expect(y, "what is gated", x.sizes());
    auto out = like(x);
    by_type(x, [&](auto zero) {
      using T = decltype(zero);
      const Shape s{x.size(1), x.size(2)};
      const auto c = modulation<T>(gate, x);
      const T *from = x.const_data_ptr<T>(), *other = y.const_data_ptr<T>();
      T* to = out.mutable_data_ptr<T>();
      mf::parallel(x.size(0) * s.tokens, s.width * 3,
                   [=](int64_t begin, int64_t end) { add_gated_range(s, from, c, other, to, begin, end); });
    });
    return out;
  }
  static variable_list backward(AutogradContext* context, variable_list grads) {
    once("gated sum");
    const auto saved = context->get_saved_variables();
    const Tensor &gate = saved[0], &y = saved[1];
    const auto g = grads[0].contiguous();
    if (g.is_cuda()) {
      auto found = mf::cuda::add_gated_backward(g, gate, y);
      return {g, found[0], found[1]};
    }
    auto gy = at::empty_like(y), ggate = at::empty({y.size(0), 1, y.size(2)}, y.options());
    by_type(y, [&](auto zero) {
      using T = decltype(zero);
      const Shape s{y.size(1), y.size(2)};
      const auto c = modulation<T>(gate, y);
      const T *up = g.const_data_ptr<T>(), *other = y.const_data_ptr<T>();
      T *tc = ggate.mutable_data_ptr<T>(), *to = gy.mutable_data_ptr<T>();
      mf::parallel(y.size(0), s.tokens * s.width * 5,
                   [=](int64_t begin, int64_t end) { add_gated_backward_range(s, up, c, other, tc, to, begin, end); });
    });
    return {g, ggate, gy};
  }
};

Tensor add_gated_tangent(const Tensor& dx, const Tensor& gate, const Tensor& dgate, const Tensor& branch,
                         const Tensor& dy) {
  if (branch.is_cuda()) return mf::cuda::add_gated_tangent(dx, gate, dgate, branch, dy);
  expect_sequences(branch);
  const auto y = branch.contiguous();
  auto out = at::empty_like(y);
  by_type(y, [&](auto zero) {
    using T = decltype(zero);
    const Shape s{y.size(1), y.size(2)};
    const auto c = modulation<T>(gate, y), dc = modulation_or_none<T>(dgate, y);
    const T *along = numbers<T>(dx, y), *other = y.const_data_ptr<T>(), *moved = numbers<T>(dy, y);
    T* to = out.mutable_data_ptr<T>();
    mf::parallel(y.size(0) * s.tokens, s.width * 5, [=](int64_t begin, int64_t end) {
      add_gated_tangent_range(s, along, c, dc, other, moved, to, begin, end);
    });
  });
  return out;
}

}  // namespace

MF_EXPORT(mf_add_gated, (Handle out, Handle x, Handle gate, Handle y), {
  *out = recorded(*x, *gate, *y) ? AddGated::apply(*x, *gate, *y)
                                 : AddGated::value(x->contiguous(), *gate, y->contiguous());
})

// The tangent in the rows of `y`; what does not move is null.
MF_EXPORT(mf_add_gated_tangent, (Handle out, Handle dx, Handle gate, Handle dgate, Handle y, Handle dy), {
  *out = add_gated_tangent(contiguous_or_none(dx), *gate, or_none(dgate), *y, contiguous_or_none(dy));
})
