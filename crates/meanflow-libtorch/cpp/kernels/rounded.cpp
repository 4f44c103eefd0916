// Products of numbers that were rounded to bf16: the affine map, and on a CUDA device the tangent of attention over short sequences.
//
// Products are of bf16 and add up in f32. Gradients reach the parameters as the products made them: unlike those of libtorch's own
// map they are not rounded to bf16 on the way, nor copied. On the CPU results are not rounded either, since what follows is in f32.
#include <ATen/ops/_unsafe_view.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/mm.h>

#include <limits>

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

// Products of bf16 that add up in f32, by the library behind at::mm: as fast as its products of f32 on processors without units for
// bf16, where libtorch's own products of bf16 are slow, and several times as fast on those that have them.
using Gemm = void (*)(int order, int turn_a, int turn_b, int m, int n, int k, float alpha, const void* a, int step_a,
                      const void* b, int step_b, float beta, float* c, int step_c);

Gemm find_gemm(const char* name) { return reinterpret_cast<Gemm>(dlsym(RTLD_DEFAULT, name)); }

// A matrix as that library takes it: row by row, or turned around.
struct Matrix {
  Tensor memory;
  int turn, step;
  explicit Matrix(const Tensor& x) {
    constexpr int as_it_is = 111, turned = 112;
    const bool columns = !x.is_contiguous() && x.t().is_contiguous();
    memory = columns ? x.t() : x.contiguous();
    turn = columns ? turned : as_it_is;
    step = int(memory.size(1));
  }
};

// a b + bias of matrices of bf16 on the CPU, in f32; by at::mm where the library has no such product.
Tensor wide_product(Gemm gemm, const Tensor& a, const Tensor& b, const Tensor& bias) {
  const int64_t m = a.size(0), k = a.size(1), n = b.size(1);
  if (!gemm || std::min({m, k, n}) == 0 || std::max({m, k, n}) > std::numeric_limits<int>::max()) {
    const auto product = a.to(at::kFloat).mm(b.to(at::kFloat));
    return bias.defined() ? product.add(bias.to(at::kFloat)) : product;
  }
  auto c = at::empty({m, n}, a.options().dtype(at::kFloat));
  if (bias.defined()) c.copy_(bias);
  const Matrix left(a), right(b);
  constexpr int row_by_row = 101;
  gemm(row_by_row, left.turn, right.turn, int(m), int(n), int(k), 1, left.memory.const_data_ptr(), left.step,
       right.memory.const_data_ptr(), right.step, bias.defined() ? 1 : 0, c.mutable_data_ptr<float>(), int(n));
  return c;
}

Tensor wide_product(const Tensor& a, const Tensor& b, const Tensor& bias) {
  static const Gemm found = find_gemm("cblas_gemm_bf16bf16f32");
  return wide_product(found, a, b, bias);
}

struct RoundedLinear : Function<RoundedLinear> {
  static Tensor forward(AutogradContext* context, const Tensor& x, const Tensor& weight, const Tensor& bias,
                        const Tensor& rounded_weight, const Tensor& rounded_bias) {
    const auto rounded = x.to(at::kBFloat16);
    context->save_for_backward({rounded, rounded_weight});
    context->saved_data["kind"] = weight.scalar_type();
    return value(rounded, bias, rounded_weight, rounded_bias, weight.scalar_type());
  }
  static Tensor value(const Tensor& x, const Tensor& bias, const Tensor& rounded_weight, const Tensor& rounded_bias,
                      at::ScalarType kind) {
    if (x.is_cuda()) return at::linear(x, rounded_weight, optional(rounded_bias));
    auto size = x.sizes().vec();
    size.back() = rounded_weight.size(0);
    return at::_unsafe_view(wide_product(rows(x), rounded_weight.t(), bias).to(kind), size);
  }
  static variable_list backward(AutogradContext* context, variable_list grads) {
    once("the affine map of rounded factors");
    const auto saved = context->get_saved_variables();
    const Tensor &x = saved[0], &weight = saved[1];
    const auto kind = context->saved_data["kind"].toScalarType();
    const auto above = rows(grads[0].contiguous());
    const auto g = above.to(at::kBFloat16);
    Tensor gx, gweight, gbias;
    if (x.is_cuda()) {
      if (context->needs_input_grad(0)) gx = g.mm(weight);
      if (context->needs_input_grad(1)) gweight = at::mm(g.t(), rows(x), at::kFloat);
      if (context->needs_input_grad(2)) gbias = column_sums(g);
    } else {
      if (context->needs_input_grad(0)) gx = wide_product(g, weight, {}).to(kind);
      if (context->needs_input_grad(1)) gweight = wide_product(g.t(), rows(x), {}).to(kind);
      if (context->needs_input_grad(2)) gbias = above.sum(0);
    }
    return {gx.defined() ? gx.view(x.sizes()) : gx, gweight, gbias, Tensor(), Tensor()};
  }

 private:
  static Tensor rows(const Tensor& x) { return x.reshape({-1, x.size(-1)}); }
  static std::optional<Tensor> optional(const Tensor& x) { return x.defined() ? std::optional(x) : std::nullopt; }
};

}  // namespace

// x W' + b of x, rounded, and of the rounded factors W and b, whose gradients go to the parameters they were rounded from.
MF_EXPORT(mf_rounded_linear,
          (Handle out, Handle x, Handle weight, Handle bias, Handle rounded_weight, Handle rounded_bias), {
            const auto b = or_none(bias), rounded_b = or_none(rounded_bias);
            const auto kind = weight->scalar_type();
            TORCH_CHECK(x->is_cpu() ? kind == at::kFloat || kind == at::kDouble : x->is_cuda() && kind == at::kFloat,
                        "expected parameters of f32, or of f64 on the CPU, got ", kind, " on ", weight->device());
            TORCH_CHECK(rounded_weight->scalar_type() == at::kBFloat16 && rounded_weight->device() == x->device() &&
                            weight->dim() == 2 && x->dim() > 0 && x->size(-1) == weight->size(1),
                        "expected rows of numbers and a matrix of bf16 on their device, got ", x->sizes());
            TORCH_CHECK(weight->sizes() == rounded_weight->sizes() && b.defined() == rounded_b.defined() &&
                            (!b.defined() || (b.scalar_type() == kind && b.dim() == 1 && b.size(0) == weight->size(0) &&
                                              b.sizes() == rounded_b.sizes())),
                        "expected factors of the sizes of their parameters, ", weight->sizes(), ", got ",
                        rounded_weight->sizes());
            *out = recorded(*x, *weight) || (b.defined() && recorded(b))
                       ? RoundedLinear::apply(*x, *weight, b, *rounded_weight, rounded_b)
                       : RoundedLinear::value(x->to(at::kBFloat16), b, *rounded_weight, rounded_b, kind);
          })

// a b of matrices of bf16 through a function of this name, which the test of what happens without one chooses.
MF_EXPORT(mf_wide_product_by, (Handle out, Handle a, Handle b, const char* name), {
  *out = wide_product(find_gemm(name), *a, *b, {});
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
