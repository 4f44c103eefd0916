// The affine map y = x Wᵀ + b of few rows; x [M, K], W [N, K], y [M, N].
//
// W is read once, as it lies in memory: nothing of it is copied or put in another order, which for few rows costs a library
// more than the product. A tile is as many outputs as a vector has lanes, each with a vector of sums, turned around at the end.
#pragma once

#include <algorithm>
#include <utility>

#include "vector.h"

namespace mf {

template <typename T>
struct Affine {
  int64_t rows, inputs, outputs;
  const T *weight, *bias;  // no bias: null
};

template <typename T, size_t... Lane>
MF_INLINE void interleave(Vector<T>& a, Vector<T>& b, std::index_sequence<Lane...>) {
  constexpr int width = Lanes<T>::width;
  const Vector<T> low = __builtin_shufflevector(a, b, (Lane / 2 + Lane % 2 * width)...);
  b = __builtin_shufflevector(a, b, (width / 2 + Lane / 2 + Lane % 2 * width)...);
  a = low;
}

// The transpose of a square of vectors: as many perfect shuffles as the width has bits.
template <typename T>
MF_INLINE void transpose(Vector<T>* v) {
  constexpr int width = Lanes<T>::width;
  for (int stage = 1; stage < width; stage *= 2) {
    Vector<T> next[width];
    for (int i = 0; i < width / 2; ++i) {
      next[2 * i] = v[i];
      next[2 * i + 1] = v[i + width / 2];
      interleave<T>(next[2 * i], next[2 * i + 1], std::make_index_sequence<width>());
    }
    for (int i = 0; i < width; ++i) v[i] = next[i];
  }
}

// x [M, K] as [M / lanes, K, lanes], zero where there is no row.
template <typename T>
MF_INLINE void panels(Affine<T> map, const T* x, T* to) {
  constexpr int64_t width = Lanes<T>::width;
  for (int64_t row = 0; row < map.rows; row += width) {
    const int64_t rows = std::min(width, map.rows - row);
    for (int64_t k = 0; k < map.inputs; k += width, to += width * width) {
      const int64_t count = std::min(width, map.inputs - k);
      Vector<T> v[width] = {};
      for (int64_t i = 0; i < rows; ++i) {
        const T* from = x + (row + i) * map.inputs + k;
        v[i] = count == width ? load<T>(from) : load_some<T>(from, count);
      }
      transpose<T>(v);
      for (int64_t i = 0; i < count; ++i) store<T>(to + i * width, v[i]);
      if (count < width) to -= (width - count) * width;
    }
  }
}

// The weights of as many outputs as there are lanes; behind the last output the last one again.
template <typename T>
MF_INLINE void weights_of(Affine<T> map, int64_t output, const T** weights) {
  for (int64_t j = 0; j < Lanes<T>::width; ++j) {
    weights[j] = map.weight + std::min(output + j, map.outputs - 1) * map.inputs;
  }
}

template <typename T>
MF_INLINE void put(Affine<T> map, int64_t output, Vector<T> v, T* to) {
  const int64_t count = std::min(Lanes<T>::width, map.outputs - output);
  if (count == Lanes<T>::width) {
    store<T>(to + output, map.bias ? v + load<T>(map.bias + output) : v);
  } else {
    store_some<T>(to + output, map.bias ? v + load_some<T>(map.bias + output, count) : v, count);
  }
}

// Outputs begin to end, in tiles, of rows that stand in panels.
template <typename T>
MF_INLINE void affine_panels(Affine<T> map, const T* panels, T* y, int64_t begin, int64_t end) {
  constexpr int64_t width = Lanes<T>::width;
  for (int64_t tile = begin; tile < end; ++tile) {
    const T* weights[width];
    weights_of<T>(map, tile * width, weights);
    for (int64_t row = 0; row < map.rows; row += width) {
      Vector<T> sums[width] = {};
      const T* panel = panels + row * map.inputs;
      for (int64_t k = 0; k < map.inputs; ++k) {
        const Vector<T> v = load<T>(panel + k * width);
        for (int64_t j = 0; j < width; ++j) sums[j] += v * weights[j][k];
      }
      transpose<T>(sums);
      const int64_t rows = std::min(width, map.rows - row);
      for (int64_t i = 0; i < rows; ++i) put<T>(map, tile * width, sums[i], y + (row + i) * map.outputs);
    }
  }
}

// The same row by row, as they are: less work for a few of them.
template <typename T>
MF_INLINE void affine_rows(Affine<T> map, const T* x, T* y, int64_t begin, int64_t end) {
  constexpr int64_t width = Lanes<T>::width;
  for (int64_t tile = begin; tile < end; ++tile) {
    const T* weights[width];
    weights_of<T>(map, tile * width, weights);
    for (int64_t row = 0; row < map.rows; ++row) {
      Vector<T> sums[width] = {};
      for_each_vector<T>(map.inputs, [&](int64_t k, auto get, auto) MF_LAMBDA {
        const Vector<T> v = get(x + row * map.inputs + k);
        for (int64_t j = 0; j < width; ++j) sums[j] += v * get(weights[j] + k);
      });
      transpose<T>(sums);
      Vector<T> total = sums[0];
      for (int64_t j = 1; j < width; ++j) total += sums[j];
      put<T>(map, tile * width, total, y + row * map.outputs);
    }
  }
}

}  // namespace mf
