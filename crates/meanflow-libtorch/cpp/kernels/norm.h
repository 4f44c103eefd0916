// Layer norm without affine part followed by an adaptive scale and shift.
#pragma once

#include <cmath>

#include "modulation.h"

namespace mf {

template <typename T>
MF_INLINE void row_statistics(const T* x, int64_t width, T epsilon, T& mean, T& rstd) {
  Vector<T> total = {};
  for_each_vector<T>(width, [&](int64_t i, auto get, auto) MF_LAMBDA { total += get(x + i); });
  mean = sum<T>(total) / T(width);
  T squares = 0;
  constexpr int64_t lanes = Lanes<T>::width;
  Vector<T> partial = {};
  int64_t i = 0;
  for (; i + lanes <= width; i += lanes) {
    const Vector<T> d = load<T>(x + i) - mean;
    partial += d * d;
  }
  for (; i < width; ++i) squares += (x[i] - mean) * (x[i] - mean);
  rstd = T(1) / std::sqrt((squares + sum<T>(partial)) / T(width) + epsilon);
}

// y = (x − mean) rstd (1 + scale) + shift; mean and rstd [B, N] are kept for the derivatives.
template <typename T>
MF_INLINE void norm_modulate(Shape shape, const T* x, Modulation<T> shift, Modulation<T> scale, T epsilon, T* y,
                             T* means, T* rstds, int64_t begin, int64_t end) {
  const auto [tokens, width] = shape;
  for (int64_t row = begin; row < end; ++row) {
    const T *from = x + row * width, *b = shift.of(row / tokens), *a = scale.of(row / tokens);
    T mean, rstd;
    row_statistics(from, width, epsilon, mean, rstd);
    means[row] = mean;
    rstds[row] = rstd;
    for_each_vector<T>(width, [&](int64_t i, auto get, auto put) MF_LAMBDA {
      const Vector<T> normal = (get(from + i) - mean) * rstd;
      put(y + row * width + i, normal * (get(a + i) + T(1)) + get(b + i));
    });
  }
}

// r (d − mean(d) − normal · mean(d · normal)): the Jacobian of the normalisation, which is symmetric, times d.
template <typename T>
struct NormDerivative {
  T mean, rstd, d_mean, d_normal;
  MF_INLINE Vector<T> normal(Vector<T> x) const { return (x - mean) * rstd; }
  MF_INLINE Vector<T> at(Vector<T> d, Vector<T> normal) const { return (d - d_mean - normal * d_normal) * rstd; }
};

// From the gradient g of y, the gradients of x [B, N, D] and of shift and scale [B, D], sample by sample.
template <typename T>
MF_INLINE void norm_modulate_backward(Shape shape, const T* g, const T* x, Modulation<T> scale, const T* means,
                                      const T* rstds, T* gx, T* gshift, T* gscale, int64_t begin, int64_t end) {
  const auto [tokens, width] = shape;
  for (int64_t sample = begin; sample < end; ++sample) {
    T *to_shift = gshift + sample * width, *to_scale = gscale + sample * width;
    std::memset(to_shift, 0, width * sizeof(T));
    std::memset(to_scale, 0, width * sizeof(T));
    const T* a = scale.of(sample);
    for (int64_t row = sample * tokens; row < (sample + 1) * tokens; ++row) {
      const T *from = x + row * width, *above = g + row * width;
      NormDerivative<T> d{means[row], rstds[row], 0, 0};
      Vector<T> plain = {}, along = {};
      for_each_vector<T>(width, [&](int64_t i, auto get, auto put) MF_LAMBDA {
        const Vector<T> up = get(above + i), normal = d.normal(get(from + i));
        const Vector<T> inner = up * (get(a + i) + T(1));
        put(to_shift + i, get(to_shift + i) + up);
        put(to_scale + i, get(to_scale + i) + up * normal);
        plain += inner;
        along += inner * normal;
      });
      d.d_mean = sum<T>(plain) / T(width);
      d.d_normal = sum<T>(along) / T(width);
      for_each_vector<T>(width, [&](int64_t i, auto get, auto put) MF_LAMBDA {
        put(gx + row * width + i, d.at(get(above + i) * (get(a + i) + T(1)), d.normal(get(from + i))));
      });
    }
  }
}

// The tangent of y along (dx, dshift, dscale), each zero where it does not move.
template <typename T>
MF_INLINE void norm_modulate_tangent(Shape shape, const T* dx, const T* x, Modulation<T> dshift, Modulation<T> dscale,
                                     Modulation<T> scale, const T* means, const T* rstds, T* dy, int64_t begin,
                                     int64_t end) {
  const auto [tokens, width] = shape;
  for (int64_t row = begin; row < end; ++row) {
    const int64_t sample = row / tokens;
    const T *from = x + row * width, *along_x = dx ? dx + row * width : nullptr;
    const T *a = scale.of(sample), *da = dscale.of(sample), *db = dshift.of(sample);
    NormDerivative<T> d{means[row], rstds[row], 0, 0};
    Vector<T> plain = {}, along = {};
    for_each_vector<T>(width, [&](int64_t i, auto get, auto) MF_LAMBDA {
      const Vector<T> step = get_or_zero(along_x, i, get);
      plain += step;
      along += step * d.normal(get(from + i));
    });
    d.d_mean = sum<T>(plain) / T(width);
    d.d_normal = sum<T>(along) / T(width);
    for_each_vector<T>(width, [&](int64_t i, auto get, auto put) MF_LAMBDA {
      const Vector<T> normal = d.normal(get(from + i));
      const Vector<T> moved = d.at(get_or_zero(along_x, i, get), normal) * (get(a + i) + T(1));
      put(dy + row * width + i, moved + normal * get_or_zero(da, i, get) + get_or_zero(db, i, get));
    });
  }
}

}  // namespace mf
