// Products of numbers that were rounded to bf16, on a CUDA device: the affine map, and the tangent of attention over short sequences.
//
// Products are of bf16 and add up in f32. Gradients reach the parameters, which are f32, as the products made them: unlike those of
// libtorch's own map they are not rounded to bf16 on the way, nor copied.
#include <ATen/ops/linear.h>
#include <ATen/ops/mm.h>

#include "../cuda/programs.h"
#include "operation.h"

namespace {

// The sums over the rows of x [rows, columns], bf16, in f32.
Tensor column_sums(const Tensor& x) {
  constexpr int64_t columns_of_block = 128, warps = 8, rows_of_warp = 16, enough = 1056;
  const int64_t rows = x.size(0), columns = x.size(1);
  if (columns % 4 != 0 || reinterpret_cast<uintptr_t>(x.const_data_ptr()) % 8 != 0) return x.sum(0, false, at::kFloat);
  const int64_t across = (columns + columns_of_block - 1) / columns_of_block;
  const int64_t most = std::max<int64_t>(1, rows / (warps * rows_of_warp));
  const int64_t parts = std::clamp<int64_t>(enough / across, 1, most);
  auto sums = at::empty({parts, columns}, x.options().dtype(at::kFloat));
  mf::cuda::program(x.device().index(), mf::cuda::Subject::matrices)
      .run("column_sums_bf16", x.device(), across * parts, unsigned(warps), (long long)rows, int(columns), int(parts),
           x.const_data_ptr(), sums.mutable_data_ptr());
  return parts == 1 ? sums.squeeze(0) : sums.sum(0);
}

struct RoundedLinear : Function<RoundedLinear> {
  static Tensor forward(AutogradContext* context, const Tensor& x, const Tensor& weight, const Tensor& bias,
                        const Tensor& rounded_weight, const Tensor& rounded_bias) {
    context->save_for_backward({x, rounded_weight});
    return at::linear(x, rounded_weight, rounded_bias);
  }
  static variable_list backward(AutogradContext* context, variable_list grads) {
    once("the affine map of rounded factors");
    const auto saved = context->get_saved_variables();
    const Tensor &x = saved[0], &weight = saved[1];
    const auto g = grads[0].contiguous().view({-1, weight.size(0)});
    Tensor gx, gweight, gbias;
    if (context->needs_input_grad(0)) gx = g.mm(weight).view(x.sizes());
    if (context->needs_input_grad(1)) gweight = at::mm(g.t(), x.reshape({-1, weight.size(1)}), at::kFloat);
    if (context->needs_input_grad(2)) gbias = column_sums(g);
    return {gx, gweight, gbias, Tensor(), Tensor()};
  }
};

}  // namespace

// x W' + b of bf16 x and of the rounded factors W and b, whose gradients go to the parameters they were rounded from, in f32.
MF_EXPORT(mf_rounded_linear,
          (Handle out, Handle x, Handle weight, Handle bias, Handle rounded_weight, Handle rounded_bias), {
            TORCH_CHECK(x->is_cuda() && x->scalar_type() == at::kBFloat16 && weight->scalar_type() == at::kFloat &&
                            bias->scalar_type() == at::kFloat && rounded_weight->scalar_type() == at::kBFloat16,
                        "expected numbers and factors of bf16 and parameters of f32 on a CUDA device");
            TORCH_CHECK(weight->sizes() == rounded_weight->sizes() && bias->sizes() == rounded_bias->sizes(),
                        "expected factors of the sizes of their parameters, ", weight->sizes(), ", got ",
                        rounded_weight->sizes());
            *out = recorded(*x, *weight, *bias) ? RoundedLinear::apply(*x, *weight, *bias, *rounded_weight, *rounded_bias)
                                                : at::linear(*x, *rounded_weight, *rounded_bias);
          })

// The tangent of softmax attention over packed and dpacked [B, N, 3 D] of at most 64 tokens, in bf16.
MF_EXPORT(mf_short_attention_tangent, (Handle out, Handle packed, Handle dpacked, int64_t heads), {
  TORCH_CHECK(packed->is_cuda() && packed->scalar_type() == at::kBFloat16 && packed->dim() == 3 && heads > 0 &&
                  packed->size(1) <= 64 && packed->size(2) % (3 * heads) == 0,
              "expected packed projections [B, at most 64, 3 D] of bf16 on a CUDA device, D of ", heads, " heads");
  TORCH_CHECK(dpacked->sizes() == packed->sizes() && dpacked->scalar_type() == at::kBFloat16 &&
                  dpacked->device() == packed->device(),
              "expected a tangent ", packed->sizes(), " of bf16, got ", dpacked->sizes());
  const auto x = packed->contiguous(), dx = dpacked->contiguous();
  const int64_t samples = x.size(0), tokens = x.size(1), width = x.size(2) / 3, head = width / heads;
  auto result = at::empty({samples, tokens, width}, x.options());
  mf::cuda::program(x.device().index(), mf::cuda::Subject::heads, head)
      .run("attention_tangent_bf16", x.device(), samples * heads, 8, int(heads), int(tokens),
           float(1 / std::sqrt(double(head))), x.const_data_ptr(), dx.const_data_ptr(), result.mutable_data_ptr());
  *out = result;
})
