// GELU in its tanh form, which is x σ(2 c (x + a x³)), and the product with its derivative.
#pragma once

#include "vector.h"

namespace mf {

constexpr double GELU_A = 0.044715;
constexpr double GELU_2C = 1.5957691216057308;  // 2 √(2/π)

template <typename T>
MF_INLINE Vector<T> gelu_sigmoid(Vector<T> x) {
  const Vector<T> s = x * T(GELU_2C) * (x * x * T(GELU_A) + T(1));
  return T(1) / (exp<T>(-s) + T(1));
}

template <typename T>
MF_INLINE void gelu(const T* x, T* y, int64_t begin, int64_t end) {
  for_each_vector<T>(end - begin, [&](int64_t i, auto get, auto put) MF_LAMBDA {
    const Vector<T> v = get(x + begin + i);
    put(y + begin + i, v * gelu_sigmoid<T>(v));
  });
}

// out = g · gelu'(x): the gradient from above, and the tangent from below.
template <typename T>
MF_INLINE void gelu_derivative(const T* x, const T* g, T* out, int64_t begin, int64_t end) {
  for_each_vector<T>(end - begin, [&](int64_t i, auto get, auto put) MF_LAMBDA {
    const Vector<T> v = get(x + begin + i);
    const Vector<T> s = gelu_sigmoid<T>(v);
    const Vector<T> inner = (v * v * T(3 * GELU_A) + T(1)) * T(GELU_2C);
    put(out + begin + i, get(g + begin + i) * (s + v * s * (T(1) - s) * inner));
  });
}

}  // namespace mf
