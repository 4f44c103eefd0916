// Attention of packed projections on the tape, and its tangent.
#include "attention.h"

#include "operation.h"

using mf::AttentionShape;

#define MF_KERNELS(T)                                                                                                  \
  MF_KERNEL(T, attention, (AttentionShape s, const T* packed, T* out, T* logs, int64_t begin, int64_t end), s, packed, \
            out, logs, begin, end)                                                                                     \
  MF_KERNEL(T, attention_backward,                                                                                     \
            (AttentionShape s, const T* packed, const T* logs, const T* g, T* gpacked, int64_t begin, int64_t end), s, \
            packed, logs, g, gpacked, begin, end)                                                                      \
  MF_KERNEL(T, attention_tangent,                                                                                      \
            (AttentionShape s, const T* packed, const T* logs, const T* dpacked, T* dout, int64_t begin, int64_t end), \
            s, packed, logs, dpacked, dout, begin, end)

namespace {

MF_KERNELS(float)
MF_KERNELS(double)
#undef MF_KERNELS

AttentionShape attention_shape(const Tensor& packed, int64_t heads) {
  expect_sequences(packed);
  TORCH_CHECK(heads > 0 && packed.size(2) % (3 * heads) == 0, "expected queries, keys and values of ", heads,
              " heads, got ", packed.size(2), " numbers");
  return {packed.size(1), heads, packed.size(2) / (3 * heads)};
}

struct Attention : Function<Attention> {
  static variable_list forward(AutogradContext* context, const Tensor& projections, int64_t heads) {
    const auto packed = projections.contiguous();
    auto results = value(packed, heads);
    context->save_for_backward({packed, results[1]});
    context->saved_data["heads"] = heads;
    context->mark_non_differentiable({results[1]});
    context->set_materialize_grads(false);
    return results;
  }
  // Values, and the logarithms of the sums.
  static variable_list value(const Tensor& packed, int64_t heads) {
    const auto s = attention_shape(packed, heads);
    auto out = at::empty({packed.size(0), s.tokens, s.joined()}, packed.options());
    auto logs = at::empty({packed.size(0), heads, s.tokens}, packed.options());
    by_type(packed, [&](auto zero) {
      using T = decltype(zero);
      const T* from = packed.const_data_ptr<T>();
      T *to = out.mutable_data_ptr<T>(), *l = logs.mutable_data_ptr<T>();
      mf::parallel(packed.size(0) * heads, 4 * s.tokens * s.tokens * s.width,
                   [=](int64_t begin, int64_t end) { attention_range(s, from, to, l, begin, end); });
    });
    return {out, logs};
  }
  static variable_list backward(AutogradContext* context, variable_list grads) {
    once("attention");
    const auto saved = context->get_saved_variables();
    const Tensor &packed = saved[0], &logs = saved[1];
    const auto s = attention_shape(packed, context->saved_data["heads"].toInt());
    const auto g = grads[0].contiguous();
    auto out = at::empty_like(packed);
    by_type(packed, [&](auto zero) {
      using T = decltype(zero);
      const T *from = packed.const_data_ptr<T>(), *l = logs.const_data_ptr<T>(), *up = g.const_data_ptr<T>();
      T* to = out.mutable_data_ptr<T>();
      mf::parallel(packed.size(0) * s.heads, 10 * s.tokens * s.tokens * s.width,
                   [=](int64_t begin, int64_t end) { attention_backward_range(s, from, l, up, to, begin, end); });
    });
    return {out, Tensor()};
  }
};

Tensor attention_tangent(const Tensor& projections, const Tensor& logs, const Tensor& step) {
  TORCH_CHECK(logs.defined() && logs.dim() == 3 && step.dim() == 3, "expected what the attention gave");
  const auto packed = projections.contiguous(), dpacked = step.contiguous();
  const auto s = attention_shape(packed, logs.size(1));
  expect(logs, "the logarithms of the sums", {packed.size(0), s.heads, s.tokens});
  TORCH_CHECK(logs.is_contiguous(), "the logarithms of the sums lie side by side");
  expect_rows(packed, "projections", dpacked.size(0), dpacked.sizes().slice(1));
  TORCH_CHECK(dpacked.is_cpu(), "expected a tangent on the CPU");
  auto out = at::empty({dpacked.size(0), s.tokens, s.joined()}, packed.options());
  by_type(packed, [&](auto zero) {
    using T = decltype(zero);
    const T *from = packed.const_data_ptr<T>(), *l = logs.const_data_ptr<T>(), *along = dpacked.const_data_ptr<T>();
    T* to = out.mutable_data_ptr<T>();
    mf::parallel(dpacked.size(0) * s.heads, 12 * s.tokens * s.tokens * s.width,
                 [=](int64_t begin, int64_t end) { attention_tangent_range(s, from, l, along, to, begin, end); });
  });
  return out;
}

}  // namespace

MF_EXPORT(mf_attention, (Handle out, Handle logs, Handle packed, int64_t heads), {
  auto result = recorded(*packed) ? Attention::apply(*packed, heads) : Attention::value(packed->contiguous(), heads);
  *out = result[0];
  *logs = result[1];
})

MF_EXPORT(mf_attention_tangent, (Handle out, Handle packed, Handle logs, Handle dpacked), {
  *out = attention_tangent(*packed, *logs, *dpacked);
})
