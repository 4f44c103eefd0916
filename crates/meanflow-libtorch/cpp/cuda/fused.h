// What the operations on sequences do on a CUDA device: fused.cu, compiled for the width of their rows.
#pragma once

#include "programs.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/sum.h>

#include <algorithm>

namespace mf::cuda {

using at::Tensor;

// A modulation as the kernels take it; null is zero.
struct Modulation {
  const float* data;
  long long stride;
};

// Sequences [B, N, D] of a state in f32, and how its rows are dealt to blocks.
struct Sequences {
  int64_t samples, tokens, width;
  c10::Device device;

  // A warp has a token, and a block so many warps.
  static constexpr unsigned warps = 4, warps_of_sums = 8;
  // Sums over the tokens of a sample are shared by blocks until there are about so many.
  static constexpr int64_t enough = 264;

  explicit Sequences(const Tensor& x) : samples(x.size(0)), tokens(x.size(1)), width(x.size(2)), device(x.device()) {
    TORCH_CHECK(width % 4 == 0, "expected rows of a multiple of 4 numbers, got ", width);
  }
  long long rows() const { return samples * tokens; }
  int64_t blocks() const { return (rows() + warps - 1) / warps; }
  int parts() const {
    const int64_t wanted = (enough + samples - 1) / std::max<int64_t>(samples, 1);
    return int(std::clamp<int64_t>(wanted, 1, std::max<int64_t>(tokens / warps_of_sums, 1)));
  }
  template <typename... Arguments>
  void each_token(const std::string& name, at::ScalarType low, Arguments... arguments) const {
    run(name, low, blocks(), warps, rows(), int(tokens), arguments...);
  }
  template <typename... Arguments>
  void each_sample(const std::string& name, at::ScalarType low, Arguments... arguments) const {
    run(name, low, samples * parts(), warps_of_sums, int(tokens), parts(), arguments...);
  }
  // What was summed in parts, [B, parts, D], to [B, 1, D].
  Tensor summed(const Tensor& sums) const { return parts() == 1 ? sums : sums.sum(1, true); }
  Tensor empty_sums(const Tensor& x) const { return at::empty({samples, parts(), width}, x.options()); }

 private:
  template <typename... Arguments>
  void run(const std::string& name, at::ScalarType low, int64_t blocks, unsigned warps, Arguments... arguments) const {
    program(device.index(), Subject::sequences, width).run(name + (low == at::kFloat ? "_f32" : "_bf16"), device, blocks, warps, arguments...);
  }
};

inline bool is_low(at::ScalarType kind) { return kind == at::kFloat || kind == at::kBFloat16; }

// Tensors that a kernel may read 16 bytes at a time: these sizes and kind, on the device of x, rows side by side.
inline Tensor fit(const Tensor& tensor, const char* name, const Tensor& x, at::IntArrayRef sizes, at::ScalarType kind) {
  TORCH_CHECK(tensor.defined() && tensor.device() == x.device() && tensor.sizes() == sizes && tensor.scalar_type() == kind,
              "expected ", name, " ", sizes, " of ", kind, " on ", x.device(), ", got ", tensor.toString(), " ",
              tensor.defined() ? tensor.sizes() : at::IntArrayRef());
  const auto whole = tensor.contiguous();
  return reinterpret_cast<uintptr_t>(whole.const_data_ptr()) % 16 == 0 ? whole : whole.clone();
}

inline Tensor state(const Tensor& x) { return fit(x, "a state", x, x.sizes(), at::kFloat); }

// What scales or shifts the sequences of x, [at least B, 1, D] with a stride.
inline Modulation modulation(const Tensor& tensor, const Tensor& x) {
  TORCH_CHECK(tensor.defined() && tensor.device() == x.device() && tensor.scalar_type() == at::kFloat && tensor.dim() == 3 &&
                  tensor.size(0) >= x.size(0) && tensor.size(1) == 1 && tensor.size(2) == x.size(2),
              "expected a modulation of at least ", x.size(0), " rows of [1, ", x.size(2), "] in f32 on ", x.device());
  TORCH_CHECK(tensor.stride(2) == 1 && tensor.stride(0) % 4 == 0 &&
                  reinterpret_cast<uintptr_t>(tensor.const_data_ptr()) % 16 == 0,
              "a modulation has its numbers side by side, from a multiple of 16 bytes on");
  return {tensor.const_data_ptr<float>(), tensor.stride(0)};
}

inline Modulation modulation_or_none(const Tensor& tensor, const Tensor& x) {
  return tensor.defined() ? modulation(tensor, x) : Modulation{nullptr, 0};
}

// Statistics of rows, [at least B, N].
inline const float* statistics(const Tensor& tensor, const Tensor& x) {
  TORCH_CHECK(tensor.defined() && tensor.device() == x.device() && tensor.scalar_type() == at::kFloat && tensor.dim() == 2 &&
                  tensor.size(0) >= x.size(0) && tensor.size(1) == x.size(1) && tensor.is_contiguous(),
              "expected a statistic of every row in f32 on ", x.device());
  return tensor.const_data_ptr<float>();
}

inline std::vector<Tensor> norm_modulate(const Tensor& input, const Tensor& shift, const Tensor& scale, double epsilon,
                                         at::ScalarType low) {
  const auto x = state(input);
  const Sequences s(x);
  auto y = at::empty(x.sizes(), x.options().dtype(low)), means = at::empty({s.samples, s.tokens}, x.options());
  auto rstds = at::empty_like(means);
  s.each_token("norm_modulate", low, x.const_data_ptr(), modulation(shift, x), modulation(scale, x), float(epsilon),
               y.mutable_data_ptr(), means.mutable_data_ptr(), rstds.mutable_data_ptr());
  return {y, means, rstds};
}

// The gradients of x, shift and scale.
inline std::vector<Tensor> norm_modulate_backward(const Tensor& above, const Tensor& input, const Tensor& scale,
                                                  const Tensor& means, const Tensor& rstds) {
  const auto x = state(input), g = fit(above, "a gradient", x, x.sizes(), above.scalar_type());
  TORCH_CHECK(is_low(g.scalar_type()), "expected a gradient of f32 or bf16, got ", g.scalar_type());
  const Sequences s(x);
  auto gx = at::empty_like(x), gshift = s.empty_sums(x), gscale = s.empty_sums(x);
  s.each_sample("norm_modulate_backward", g.scalar_type(), g.const_data_ptr(), x.const_data_ptr(), modulation(scale, x),
                statistics(means, x), statistics(rstds, x), gx.mutable_data_ptr(), gshift.mutable_data_ptr(),
                gscale.mutable_data_ptr());
  return {gx, s.summed(gshift), s.summed(gscale)};
}

inline Tensor norm_modulate_tangent(const Tensor& dx, const Tensor& input, const Tensor& dshift, const Tensor& dscale,
                                    const Tensor& scale, const Tensor& means, const Tensor& rstds, at::ScalarType low) {
  const auto x = state(input), along = dx.defined() ? fit(dx, "a tangent", x, x.sizes(), at::kFloat) : dx;
  const Sequences s(x);
  auto dy = at::empty(x.sizes(), x.options().dtype(low));
  const void* from = along.defined() ? along.const_data_ptr() : nullptr;
  s.each_token("norm_modulate_tangent", low, from, x.const_data_ptr(), modulation_or_none(dshift, x),
               modulation_or_none(dscale, x), modulation(scale, x), statistics(means, x), statistics(rstds, x),
               dy.mutable_data_ptr());
  return dy;
}

// A branch, of f32 or bf16.
inline Tensor branch(const Tensor& y, const Tensor& x) {
  TORCH_CHECK(y.defined() && is_low(y.scalar_type()), "expected a branch of f32 or bf16");
  return fit(y, "a branch", x, x.sizes(), y.scalar_type());
}

inline Tensor add_gated(const Tensor& input, const Tensor& gate, const Tensor& other) {
  const auto x = state(input), y = branch(other, x);
  auto out = at::empty_like(x);
  Sequences(x).each_token("add_gated", y.scalar_type(), x.const_data_ptr(), modulation(gate, x), y.const_data_ptr(),
                          out.mutable_data_ptr());
  return out;
}

// The gradients of the gate and of the branch.
inline std::vector<Tensor> add_gated_backward(const Tensor& above, const Tensor& gate, const Tensor& other) {
  const auto g = state(above), y = branch(other, g);
  const Sequences s(g);
  auto gy = at::empty_like(y), ggate = s.empty_sums(g);
  s.each_sample("add_gated_backward", y.scalar_type(), g.const_data_ptr(), modulation(gate, g), y.const_data_ptr(),
                gy.mutable_data_ptr(), ggate.mutable_data_ptr());
  return {s.summed(ggate), gy};
}

inline Tensor add_gated_tangent(const Tensor& dx, const Tensor& gate, const Tensor& dgate, const Tensor& other,
                                const Tensor& moved) {
  TORCH_CHECK(other.defined() && other.dim() == 3, "expected rows of sequences of numbers");
  const auto y = branch(other, other);
  const auto dy = moved.defined() ? fit(moved, "the tangent of a branch", y, y.sizes(), y.scalar_type()) : moved;
  const auto along = dx.defined() ? fit(dx, "a tangent", y, y.sizes(), at::kFloat) : dx;
  auto out = at::empty(y.sizes(), y.options().dtype(at::kFloat));
  const void *from = along.defined() ? along.const_data_ptr() : nullptr, *by = dy.defined() ? dy.const_data_ptr() : nullptr;
  Sequences(y).each_token("add_gated_tangent", y.scalar_type(), from, modulation(gate, y), modulation_or_none(dgate, y),
                          y.const_data_ptr(), by, out.mutable_data_ptr());
  return out;
}

}  // namespace mf::cuda
