// The modulation of adaLN: numbers of a sample that all of its tokens share.
//
// B samples of N tokens of D numbers. A modulation is [B, D] with a stride between its samples.
#pragma once

#include "vector.h"

namespace mf {

template <typename T>
struct Modulation {
  const T* data;  // null: zero
  int64_t stride;
  const T* of(int64_t sample) const { return data ? data + sample * stride : nullptr; }
};

struct Shape {
  int64_t tokens, width;
};

template <typename T, typename Get>
MF_INLINE Vector<T> get_or_zero(const T* row, int64_t i, Get&& get) {
  return row ? get(row + i) : Vector<T>{};
}

}  // namespace mf
