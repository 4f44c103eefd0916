// Norm and modulation on the tape, and their tangent.
#include "norm.h"

#include "operation.h"

using mf::Modulation;
using mf::Shape;

#define MF_KERNELS(T)                                                                                               \
  MF_KERNEL(T, norm_modulate,                                                                                       \
            (Shape s, const T* x, Modulation<T> b, Modulation<T> a, T epsilon, T* y, T* means, T* rstds,            \
             int64_t begin, int64_t end),                                                                           \
            s, x, b, a, epsilon, y, means, rstds, begin, end)                                                       \
  MF_KERNEL(T, norm_modulate_backward,                                                                              \
            (Shape s, const T* g, const T* x, Modulation<T> a, const T* means, const T* rstds, T* gx, T* gb, T* ga, \
             int64_t begin, int64_t end),                                                                           \
            s, g, x, a, means, rstds, gx, gb, ga, begin, end)                                                       \
  MF_KERNEL(T, norm_modulate_tangent,                                                                               \
            (Shape s, const T* dx, const T* x, Modulation<T> db, Modulation<T> da, Modulation<T> a, const T* means, \
             const T* rstds, T* dy, int64_t begin, int64_t end),                                                    \
            s, dx, x, db, da, a, means, rstds, dy, begin, end)

namespace {

MF_KERNELS(float)
MF_KERNELS(double)
#undef MF_KERNELS

struct NormModulate : Function<NormModulate> {
  static variable_list forward(AutogradContext* context, const Tensor& input, const Tensor& shift, const Tensor& scale,
                               double epsilon) {
    const auto x = input.contiguous();
    auto results = value(x, shift, scale, epsilon);
    context->save_for_backward({x, scale, results[1], results[2]});
    context->mark_non_differentiable({results[1], results[2]});
    context->set_materialize_grads(false);
    return results;
  }
  // Values, means and reciprocal deviations.
  static variable_list value(const Tensor& x, const Tensor& shift, const Tensor& scale, double epsilon) {
    expect_sequences(x);
    auto y = like(x), means = at::empty({x.size(0), x.size(1)}, x.options()), rstds = like(means);
    by_type(x, [&](auto zero) {
      using T = decltype(zero);
      const Shape s{x.size(1), x.size(2)};
      const auto b = modulation<T>(shift, x), a = modulation<T>(scale, x);
      const T* from = x.const_data_ptr<T>();
      T *to = y.mutable_data_ptr<T>(), *m = means.mutable_data_ptr<T>(), *r = rstds.mutable_data_ptr<T>();
      mf::parallel(means.numel(), s.width * 8, [=](int64_t begin, int64_t end) {
        norm_modulate_range(s, from, b, a, T(epsilon), to, m, r, begin, end);
      });
    });
    return {y, means, rstds};
  }
  static variable_list backward(AutogradContext* context, variable_list grads) {
    once("norm and modulation");
    const auto saved = context->get_saved_variables();
    const Tensor &x = saved[0], &scale = saved[1], &means = saved[2], &rstds = saved[3];
    const auto g = grads[0].contiguous();
    auto gx = at::empty_like(x);
    auto gshift = at::empty({x.size(0), 1, x.size(2)}, x.options()), gscale = at::empty_like(gshift);
    by_type(x, [&](auto zero) {
      using T = decltype(zero);
      const Shape s{x.size(1), x.size(2)};
      const auto a = modulation<T>(scale, x);
      const T *up = g.const_data_ptr<T>(), *from = x.const_data_ptr<T>();
      const T *m = means.const_data_ptr<T>(), *r = rstds.const_data_ptr<T>();
      T *to = gx.mutable_data_ptr<T>(), *tb = gshift.mutable_data_ptr<T>(), *ta = gscale.mutable_data_ptr<T>();
      mf::parallel(x.size(0), s.tokens * s.width * 16, [=](int64_t begin, int64_t end) {
        norm_modulate_backward_range(s, up, from, a, m, r, to, tb, ta, begin, end);
      });
    });
    return {gx, gshift, gscale, Tensor()};
  }
};

Tensor norm_modulate_tangent(const Tensor& dx, const Tensor& input, const Tensor& dshift, const Tensor& dscale,
                             const Tensor& scale, const Tensor& means, const Tensor& rstds) {
  expect_sequences(input);
  const auto x = input.contiguous();
  for (const auto* statistic : {&means, &rstds}) {
    expect_rows(*statistic, "a statistic of the norm", x.size(0), {x.size(1)});
    TORCH_CHECK(statistic->is_contiguous(), "a statistic of the norm has its numbers side by side");
  }
  auto dy = at::empty_like(x);
  by_type(x, [&](auto zero) {
    using T = decltype(zero);
    const Shape s{x.size(1), x.size(2)};
    const auto db = modulation_or_none<T>(dshift, x), da = modulation_or_none<T>(dscale, x);
    const auto a = modulation<T>(scale, x);
    const T *along = numbers<T>(dx, x), *from = x.const_data_ptr<T>();
    const T *m = means.const_data_ptr<T>(), *r = rstds.const_data_ptr<T>();
    T* to = dy.mutable_data_ptr<T>();
    mf::parallel(x.size(0) * s.tokens, s.width * 12, [=](int64_t begin, int64_t end) {
      norm_modulate_tangent_range(s, along, from, db, da, a, m, r, to, begin, end);
    });
  });
  return dy;
}

}  // namespace

MF_EXPORT(mf_norm_modulate,
          (Handle out, Handle means, Handle rstds, Handle x, Handle shift, Handle scale, double epsilon), {
            auto result = recorded(*x, *shift, *scale) ? NormModulate::apply(*x, *shift, *scale, epsilon)
                                                       : NormModulate::value(x->contiguous(), *shift, *scale, epsilon);
            *out = result[0];
            *means = result[1];
            *rstds = result[2];
          })

// The tangent in the rows of `x`; what does not move is null.
MF_EXPORT(mf_norm_modulate_tangent,
          (Handle out, Handle dx, Handle x, Handle dshift, Handle dscale, Handle scale, Handle means, Handle rstds), {
            *out = norm_modulate_tangent(contiguous_or_none(dx), *x, or_none(dshift), or_none(dscale), *scale, *means,
                                         *rstds);
          })
