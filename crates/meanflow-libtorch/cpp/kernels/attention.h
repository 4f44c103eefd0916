// Softmax attention of short sequences, one head at a time in the cache, straight from the packed projections.
//
// Packed: [B, N, 3, H, d], as one matrix product gives them; result [B, N, H, d]. `L` [B, H, N] is the logarithm of
// each row's sum of exponentials, from which the probabilities come back.
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "vector.h"

namespace mf {

template <typename T>
MF_INLINE int64_t padded(int64_t count) {
  constexpr int64_t width = Lanes<T>::width;
  return (count + width - 1) / width * width;
}

// A left factor by its strides, so that a transpose costs nothing.
template <typename T>
struct Left {
  const T* data;
  int64_t row, column;
};

// A right factor or a result: rows of whole vectors.
template <typename T, typename P = const T>
struct Rows {
  P* data;
  int64_t stride;
};

template <typename T, int Height>
MF_INLINE void tile(Left<T> a, Rows<T> b, Rows<T, T> c, int64_t depth, bool add) {
  Vector<T> sums[Height] = {};
  for (int64_t k = 0; k < depth; ++k) {
    const Vector<T> v = load<T>(b.data + k * b.stride);
    for (int i = 0; i < Height; ++i) sums[i] += v * a.data[i * a.row + k * a.column];
  }
  for (int i = 0; i < Height; ++i) {
    T* to = c.data + i * c.stride;
    store<T>(to, add ? load<T>(to) + sums[i] : sums[i]);
  }
}

// tile for the last few rows, of which there are fewer than Height.
template <typename T, int Height>
MF_INLINE void last_tile(int64_t rows, Left<T> a, Rows<T> b, Rows<T, T> c, int64_t depth, bool add) {
  if constexpr (Height > 1) {
    if (rows < Height - 1) return last_tile<T, Height - 1>(rows, a, b, c, depth, add);
    tile<T, Height - 1>(a, b, c, depth, add);
  }
}

// c = a b, or c + a b: [height, depth] times [depth, width], the width padded to whole vectors.
template <typename T>
MF_INLINE void product(int64_t height, int64_t depth, int64_t width, Left<T> a, Rows<T> b, Rows<T, T> c,
                       bool add = false) {
  constexpr int tall = 6;
  for (int64_t j = 0; j < width; j += Lanes<T>::width) {
    const Rows<T> right{b.data + j, b.stride};
    const auto left = [&](int64_t i) MF_LAMBDA { return Left<T>{a.data + i * a.row, a.row, a.column}; };
    const auto to = [&](int64_t i) MF_LAMBDA { return Rows<T, T>{c.data + i * c.stride + j, c.stride}; };
    int64_t i = 0;
    for (; i + tall <= height; i += tall) tile<T, tall>(left(i), right, to(i), depth, add);
    if (i < height) last_tile<T, tall>(height - i, left(i), right, to(i), depth, add);
  }
}

struct AttentionShape {
  int64_t tokens, heads, width;  // width of a head
  int64_t packed() const { return 3 * heads * width; }
  int64_t joined() const { return heads * width; }
};

// One head's matrix inside a packed or joined tensor: `tokens` rows of `width` numbers.
template <typename T>
MF_INLINE const T* query(AttentionShape s, const T* packed, int64_t sample, int64_t head, int part) {
  return packed + sample * s.tokens * s.packed() + (part * s.heads + head) * s.width;
}

template <typename T>
MF_INLINE int64_t joined_offset(AttentionShape s, int64_t sample, int64_t head) {
  return sample * s.tokens * s.joined() + head * s.width;
}

// What one thread works in.
template <typename T>
class Scratch {
 public:
  explicit Scratch(AttentionShape s)
      : columns(padded<T>(s.tokens)), numbers(padded<T>(s.width)), shape(s), memory(size(s)), next(memory.data()) {}

  // Rows of N, zero where padded.
  T* scores() { return take(shape.tokens * columns); }

  // The transpose of a head, [d, N].
  Rows<T> transposed(const T* from, int64_t stride) {
    T* to = take(shape.width * columns);
    for (int64_t n = 0; n < shape.tokens; ++n) {
      for (int64_t k = 0; k < shape.width; ++k) to[k * columns + n] = from[n * stride + k];
    }
    return {to, columns};
  }

  // A head as a right factor, [N, d]: in place where its rows are whole vectors.
  Rows<T> right(const T* from, int64_t stride) {
    if (shape.width == numbers) return {from, stride};
    T* to = take(shape.tokens * numbers);
    for (int64_t n = 0; n < shape.tokens; ++n)
      std::memcpy(to + n * numbers, from + n * stride, shape.width * sizeof(T));
    return {to, numbers};
  }

  // Where a result [N, d] may be written, and its way to where it belongs.
  Rows<T, T> result(T* to, int64_t stride) {
    if (shape.width == numbers) return {to, stride};
    return {take(shape.tokens * numbers), numbers};
  }
  void deliver(Rows<T, T> result, T* to, int64_t stride) const {
    if (result.data == to) return;
    for (int64_t n = 0; n < shape.tokens; ++n) {
      std::memcpy(to + n * stride, result.data + n * result.stride, shape.width * sizeof(T));
    }
  }

  void reset() { next = memory.data(); }

  const int64_t columns, numbers;

 private:
  // The most that a kernel takes for one head; padding stays zero, since only the same places are written again.
  static int64_t size(AttentionShape s) {
    return 2 * s.tokens * padded<T>(s.tokens) + 2 * s.width * padded<T>(s.tokens) + 6 * s.tokens * padded<T>(s.width);
  }
  T* take(int64_t count) {
    T* here = next;
    next += count;
    return here;
  }

  const AttentionShape shape;
  std::vector<T> memory;
  T* next;
};

// Scores to probabilities e^(scale·s − L) in place.
template <typename T>
MF_INLINE void probabilities(int64_t tokens, int64_t columns, T scale, const T* logs, T* scores) {
  for (int64_t i = 0; i < tokens; ++i) {
    T* row = scores + i * columns;
    for_each_vector<T>(
        tokens, [&](int64_t j, auto get, auto put) MF_LAMBDA { put(row + j, exp<T>(get(row + j) * scale - logs[i])); });
  }
}

// The logarithm of Σ e^(scale·s) of a row.
template <typename T>
MF_INLINE T log_sum(int64_t tokens, T scale, const T* row) {
  constexpr int64_t lanes = Lanes<T>::width;
  const int64_t whole = tokens / lanes * lanes;
  T most = row[0];
  if (whole > 0) {
    Vector<T> highest = load<T>(row);
    for (int64_t j = lanes; j < whole; j += lanes) {
      const Vector<T> v = load<T>(row + j);
      highest = highest > v ? highest : v;
    }
    for (int64_t k = 0; k < lanes; ++k) most = std::max(most, T(highest[k]));
  }
  for (int64_t j = whole; j < tokens; ++j) most = std::max(most, row[j]);
  Vector<T> total = {};
  for (int64_t j = 0; j < whole; j += lanes) total += exp<T>((load<T>(row + j) - most) * scale);
  if (whole < tokens) {
    const Vector<T> last = exp<T>((load<T>(row + whole) - most) * scale);
    for (int64_t k = 0; k < tokens - whole; ++k) total[k] += last[k];
  }
  return most * scale + std::log(sum<T>(total));
}

template <typename T>
MF_INLINE void attention(AttentionShape s, const T* packed, T* out, T* logs, int64_t begin, int64_t end) {
  const T scale = T(1) / std::sqrt(T(s.width));
  Scratch<T> scratch(s);
  for (int64_t index = begin; index < end; ++index, scratch.reset()) {
    const int64_t sample = index / s.heads, head = index % s.heads, row = s.packed();
    const T *q = query(s, packed, sample, head, 0), *k = query(s, packed, sample, head, 1);
    T *p = scratch.scores(), *to = out + joined_offset<T>(s, sample, head), *log = logs + index * s.tokens;
    product<T>(s.tokens, s.width, scratch.columns, {q, row, 1}, scratch.transposed(k, row), {p, scratch.columns});
    for (int64_t i = 0; i < s.tokens; ++i) log[i] = log_sum<T>(s.tokens, scale, p + i * scratch.columns);
    probabilities<T>(s.tokens, scratch.columns, scale, log, p);
    const auto result = scratch.result(to, s.joined());
    const auto values = scratch.right(query(s, packed, sample, head, 2), row);
    product<T>(s.tokens, s.tokens, scratch.numbers, {p, scratch.columns, 1}, values, result);
    scratch.deliver(result, to, s.joined());
  }
}

// change := scale · p (change − Σ p change), row by row: the Jacobian of a softmax, which is symmetric.
template <typename T>
MF_INLINE void softmax_derivative(int64_t tokens, int64_t columns, T scale, const T* p, T* change) {
  for (int64_t i = 0; i < tokens; ++i) {
    const T* share = p + i * columns;
    T* row = change + i * columns;
    Vector<T> total = {};
    for_each_vector<T>(tokens, [&](int64_t j, auto get, auto) MF_LAMBDA { total += get(share + j) * get(row + j); });
    const T mean = sum<T>(total);
    for_each_vector<T>(tokens, [&](int64_t j, auto get, auto put)
                                   MF_LAMBDA { put(row + j, get(share + j) * (get(row + j) - mean) * scale); });
  }
}

// From the gradient g [B, N, H, d] of the result, that of the packed projections.
template <typename T>
MF_INLINE void attention_backward(AttentionShape s, const T* packed, const T* logs, const T* g, T* gpacked,
                                  int64_t begin, int64_t end) {
  const T scale = T(1) / std::sqrt(T(s.width));
  Scratch<T> scratch(s);
  const int64_t n = s.tokens, row = s.packed(), columns = scratch.columns, numbers = scratch.numbers;
  for (int64_t index = begin; index < end; ++index, scratch.reset()) {
    const int64_t sample = index / s.heads, head = index % s.heads;
    const T* parts[3];
    T* grads[3];
    for (int part = 0; part < 3; ++part) {
      parts[part] = query(s, packed, sample, head, part);
      grads[part] = gpacked + (parts[part] - packed);
    }
    const T* above = g + joined_offset<T>(s, sample, head);
    T *p = scratch.scores(), *ds = scratch.scores();
    product<T>(n, s.width, columns, {parts[0], row, 1}, scratch.transposed(parts[1], row), {p, columns});
    probabilities<T>(n, columns, scale, logs + index * n, p);
    product<T>(n, s.width, columns, {above, s.joined(), 1}, scratch.transposed(parts[2], row), {ds, columns});
    softmax_derivative<T>(n, columns, scale, p, ds);
    const auto write = [&](int part, Left<T> left, Rows<T> right) MF_LAMBDA {
      const auto result = scratch.result(grads[part], row);
      product<T>(n, n, numbers, left, right, result);
      scratch.deliver(result, grads[part], row);
    };
    write(0, {ds, columns, 1}, scratch.right(parts[1], row));
    write(1, {ds, 1, columns}, scratch.right(parts[0], row));
    write(2, {p, 1, columns}, scratch.right(above, s.joined()));
  }
}

// The tangent of the result along a tangent of the packed projections.
template <typename T>
MF_INLINE void attention_tangent(AttentionShape s, const T* packed, const T* logs, const T* dpacked, T* dout,
                                 int64_t begin, int64_t end) {
  const T scale = T(1) / std::sqrt(T(s.width));
  Scratch<T> scratch(s);
  const int64_t n = s.tokens, row = s.packed(), columns = scratch.columns, numbers = scratch.numbers;
  for (int64_t index = begin; index < end; ++index, scratch.reset()) {
    const int64_t sample = index / s.heads, head = index % s.heads;
    const auto part = [&](const T* of, int which) MF_LAMBDA { return query(s, of, sample, head, which); };
    T *p = scratch.scores(), *ds = scratch.scores();
    const auto keys = scratch.transposed(part(packed, 1), row);
    product<T>(n, s.width, columns, {part(packed, 0), row, 1}, keys, {p, columns});
    probabilities<T>(n, columns, scale, logs + index * n, p);
    product<T>(n, s.width, columns, {part(dpacked, 0), row, 1}, keys, {ds, columns});
    const auto moving = scratch.transposed(part(dpacked, 1), row);
    product<T>(n, s.width, columns, {part(packed, 0), row, 1}, moving, {ds, columns}, true);
    softmax_derivative<T>(n, columns, scale, p, ds);
    T* to = dout + joined_offset<T>(s, sample, head);
    const auto result = scratch.result(to, s.joined());
    product<T>(n, n, numbers, {ds, columns, 1}, scratch.right(part(packed, 2), row), result);
    product<T>(n, n, numbers, {p, columns, 1}, scratch.right(part(dpacked, 2), row), result, true);
    scratch.deliver(result, to, s.joined());
  }
}

}  // namespace mf
