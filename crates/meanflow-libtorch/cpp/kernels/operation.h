// What the operations on libtorch's tape share.
#pragma once

#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <torch/csrc/autograd/custom_function.h>

#include "../guarded.h"
#include "modulation.h"
#include "parallel.h"

// NAME_range(arguments…, begin, end): the kernel mf::NAME for one number type, compiled for every instruction set.
#define MF_KERNEL(T, NAME, PARAMETERS, ...) \
  MF_CLONES void NAME##_range PARAMETERS { mf::NAME<T>(__VA_ARGS__); }

namespace {

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::variable_list;

// Calls body with a value of the tensor's number type.
template <typename Body>
void by_type(const Tensor& tensor, Body&& body) {
  switch (tensor.scalar_type()) {
    case at::kFloat:
      return body(float());
    case at::kDouble:
      return body(double());
    default:
      TORCH_CHECK(false, "expected float or double, got ", tensor.scalar_type());
  }
}

// Kernels read and write memory without looking, so everything they are given is looked at here: numbers of the CPU, of
// these sizes.
inline void expect(const Tensor& x, const char* name, at::IntArrayRef sizes) {
  TORCH_CHECK(x.defined(), "expected ", name, " ", sizes, ", got no tensor");
  TORCH_CHECK(x.is_cpu(), "expected ", name, " on the CPU, got it on ", x.device());
  TORCH_CHECK(x.sizes() == sizes, "expected ", name, " ", sizes, ", got ", x.sizes());
}

inline void expect_sequences(const Tensor& x) {
  TORCH_CHECK(x.defined() && x.is_cpu() && x.dim() == 3, "expected rows of sequences of numbers on the CPU");
}

inline void expect_kind(const Tensor& x, at::ScalarType kind) {
  TORCH_CHECK(x.scalar_type() == kind, "the CPU gives results of the input's kind, ", x.scalar_type(), ", asked for ", kind);
}

// The same for what may have more rows than are used.
inline void expect_rows(const Tensor& x, const char* name, int64_t rows, at::IntArrayRef of_a_row) {
  TORCH_CHECK(x.defined() && x.is_cpu(), "expected ", name, " on the CPU");
  TORCH_CHECK(x.dim() == int64_t(of_a_row.size()) + 1 && x.size(0) >= rows && x.sizes().slice(1) == of_a_row, "expected ",
              name, " of at least ", rows, " rows of ", of_a_row, ", got ", x.sizes());
}

// What scales or shifts the sequences of x, [B, 1, D].
template <typename T>
mf::Modulation<T> modulation(const Tensor& tensor, const Tensor& x) {
  expect_rows(tensor, "a modulation", x.size(0), {1, x.size(2)});
  TORCH_CHECK(tensor.stride(-1) == 1, "a modulation has its numbers side by side");
  return {tensor.const_data_ptr<T>(), tensor.stride(0)};
}

// The tangent of one; null where nothing moves.
template <typename T>
mf::Modulation<T> modulation_or_none(const Tensor& tensor, const Tensor& x) {
  return tensor.defined() ? modulation<T>(tensor, x) : mf::Modulation<T>{nullptr, 0};
}

// The numbers of a tangent; null where nothing moves.
template <typename T>
const T* numbers(const Tensor& tensor, const Tensor& x) {
  if (!tensor.defined()) return nullptr;
  expect(tensor, "a tangent", x.sizes());
  return tensor.const_data_ptr<T>();
}

inline Tensor contiguous_or_none(Handle handle) { return handle ? handle->contiguous() : Tensor(); }

inline Tensor or_none(Handle handle) { return handle ? *handle : Tensor(); }

// A new tensor of this shape and type; by fewer calls than empty_like.
inline Tensor like(const Tensor& x) { return at::empty(x.sizes(), x.options()); }

// Whether the tape has to know of an operation on these: the way over the tape costs more than a small operation itself. It
// is also taken by a tangent of libtorch's forward mode, which it refuses.
template <typename... Tensors>
bool recorded(const Tensors&... inputs) {
  return (at::GradMode::is_enabled() && (inputs.requires_grad() || ...)) || (inputs._fw_grad(0).defined() || ...);
}

// A backward pass is a kernel without a tape: asked to record one it must refuse, not forget.
void once(const char* name) {
  TORCH_CHECK(!at::GradMode::is_enabled(), name, " has no second derivative here: use the products-only operations");
}

}  // namespace
