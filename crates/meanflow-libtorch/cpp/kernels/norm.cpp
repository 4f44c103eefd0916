// Norm and modulation on the tape, and their tangent.
#include "norm.h"

#include "../cuda/fused.h"
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
                               double epsilon, at::ScalarType kind) {
    const auto x = input.contiguous();
    auto results = value(x, shift, scale, epsilon, kind);
    context->save_for_backward({x, scale, results[1], results[2]});
    context->mark_non_differentiable({results[1], results[2]});
    context->set_materialize_grads(false);
    return results;
  }
  // Values, means and reciprocal deviations.
  static variable_list value(const Tensor& x, const Tensor& shift, const Tensor& scale, double epsilon,
                             at::ScalarType kind) {
    if (x.is_cuda()) return mf::cuda::norm_modulate(x, shift, scale, epsilon, kind);
    expect_sequences(x);
    expect_kind(x, kind);
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
    if (x.is_cuda()) {
      auto found = mf::cuda::norm_modulate_backward(grads[0], x, scale, means, rstds);
      return {found[0], found[1], found[2], Tensor(), Tensor()};
    }
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
    return {gx, gshift, gscale, Tensor(), Tensor()};
  }
};

Tensor norm_modulate_tangent(const Tensor& dx, const Tensor& input, const Tensor& dshift, const Tensor& dscale,
                             const Tensor& scale, const Tensor& means, const Tensor& rstds, at::ScalarType kind) {
  TORCH_CHECK(input.defined() && input.dim() == 3, "expected rows of sequences of numbers");
  if (input.is_cuda()) return mf::cuda::norm_modulate_tangent(dx, input, dshift, dscale, scale, means, rstds, kind);
  expect_sequences(input);
  expect_kind(input, kind);
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

// The dtype of the result: bf16, which only CUDA devices give, or that of the input.
at::ScalarType kind_of(bool bf16, Handle x) { return bf16 ? at::kBFloat16 : x->scalar_type(); }

}  // namespace

MF_EXPORT(mf_norm_modulate,
          (Handle out, Handle means, Handle rstds, Handle x, Handle shift, Handle scale, double epsilon, bool bf16), {
            TORCH_CHECK(x->defined() && x->dim() == 3, "expected rows of sequences of numbers");
            const auto kind = kind_of(bf16, x);
            auto result = recorded(*x, *shift, *scale)
                              ? NormModulate::apply(*x, *shift, *scale, epsilon, kind)
                              : NormModulate::value(x->contiguous(), *shift, *scale, epsilon, kind);
            *out = result[0];
            *means = result[1];
            *rstds = result[2];
          })

// The tangent in the rows of `x`; what does not move is null.
MF_EXPORT(mf_norm_modulate_tangent,
          (Handle out, Handle dx, Handle x, Handle dshift, Handle dscale, Handle scale, Handle means, Handle rstds, bool bf16),
          {
            *out = norm_modulate_tangent(contiguous_or_none(dx), *x, or_none(dshift), or_none(dscale), *scale, *means,
                                         *rstds, kind_of(bf16, x));
          })

// Compiles the kernels of a CUDA device for one of the subjects, and a size, where that was not done before.
MF_EXPORT(mf_cuda_kernels, (int64_t device, int subject, int64_t size), {
  mf::cuda::program(device, static_cast<mf::cuda::Subject>(subject), size);
})
