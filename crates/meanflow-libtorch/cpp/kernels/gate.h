// The gated residual x + gate y.
#pragma once

#include "modulation.h"

namespace mf {

// out = x + gate y.
template <typename T>
MF_INLINE void add_gated(Shape shape, const T* x, Modulation<T> gate, const T* y, T* out, int64_t begin, int64_t end) {
  const auto [tokens, width] = shape;
  for (int64_t row = begin; row < end; ++row) {
    const int64_t at = row * width;
    const T* c = gate.of(row / tokens);
    for_each_vector<T>(width, [&](int64_t i, auto get, auto put)
                                  MF_LAMBDA { put(out + at + i, get(x + at + i) + get(c + i) * get(y + at + i)); });
  }
}

// The gradients of gate [B, D] and y; that of x is g itself.
template <typename T>
MF_INLINE void add_gated_backward(Shape shape, const T* g, Modulation<T> gate, const T* y, T* ggate, T* gy,
                                  int64_t begin, int64_t end) {
  const auto [tokens, width] = shape;
  for (int64_t sample = begin; sample < end; ++sample) {
    T* total = ggate + sample * width;
    std::memset(total, 0, width * sizeof(T));
    const T* c = gate.of(sample);
    for (int64_t row = sample * tokens; row < (sample + 1) * tokens; ++row) {
      const int64_t at = row * width;
      for_each_vector<T>(width, [&](int64_t i, auto get, auto put) MF_LAMBDA {
        const Vector<T> above = get(g + at + i);
        put(total + i, get(total + i) + above * get(y + at + i));
        put(gy + at + i, above * get(c + i));
      });
    }
  }
}

// dx + dgate y + gate dy, each zero where it does not move.
template <typename T>
MF_INLINE void add_gated_tangent(Shape shape, const T* dx, Modulation<T> gate, Modulation<T> dgate, const T* y,
                                 const T* dy, T* out, int64_t begin, int64_t end) {
  const auto [tokens, width] = shape;
  for (int64_t row = begin; row < end; ++row) {
    const int64_t at = row * width;
    const T *c = gate.of(row / tokens), *dc = dgate.of(row / tokens);
    const T *step = dx ? dx + at : nullptr, *moved = dy ? dy + at : nullptr;
    for_each_vector<T>(width, [&](int64_t i, auto get, auto put) MF_LAMBDA {
      const Vector<T> sum = get_or_zero(step, i, get) + get(c + i) * get_or_zero(moved, i, get);
      put(out + at + i, sum + get_or_zero(dc, i, get) * get(y + at + i));
    });
  }
}

}  // namespace mf
