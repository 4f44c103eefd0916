// Vectors of 64 bytes that the compiler lowers to what the processor has, and one function of them: exp.
//
// Kernels are written as inline templates over the number type and compiled several times, once for each instruction
// set (MF_CLONES); the loader picks the best one.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__x86_64__) && defined(__gnu_linux__)
#define MF_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define MF_CLONES
#endif
#define MF_INLINE inline __attribute__((always_inline))
#define MF_LAMBDA __attribute__((always_inline))

namespace mf {

template <typename T>
struct Lanes;

template <>
struct Lanes<float> {
  typedef float Vector __attribute__((vector_size(64)));
  typedef int32_t Integers __attribute__((vector_size(64)));
  static constexpr int64_t width = 16;
  static constexpr int terms = 7;  // of exp's series: 0.35^8 / 8! is below half a unit in the last place
  static constexpr int mantissa = 23;
  static constexpr int32_t bias = 127;
  static constexpr float round = 12582912.0f;  // 1.5 · 2^23: adding it rounds to an integer in the low bits
  static constexpr float lowest = -87.0f, highest = 88.0f;
  static constexpr float ln2_high = 0.693359375f, ln2_low = -2.12194440e-4f;
};

template <>
struct Lanes<double> {
  typedef double Vector __attribute__((vector_size(64)));
  typedef int64_t Integers __attribute__((vector_size(64)));
  static constexpr int64_t width = 8;
  static constexpr int terms = 13;
  static constexpr int mantissa = 52;
  static constexpr int64_t bias = 1023;
  static constexpr double round = 6755399441055744.0;  // 1.5 · 2^52
  static constexpr double lowest = -708.0, highest = 709.0;
  static constexpr double ln2_high = 6.93147180369123816490e-01, ln2_low = 1.90821492927058770002e-10;
};

template <typename T>
using Vector = typename Lanes<T>::Vector;

template <typename T>
MF_INLINE Vector<T> load(const T* from) {
  Vector<T> v;
  std::memcpy(&v, from, sizeof v);
  return v;
}

template <typename T>
MF_INLINE void store(T* to, const Vector<T>& v) {
  std::memcpy(to, &v, sizeof v);
}

// The first `count` lanes; the others are zero.
template <typename T>
MF_INLINE Vector<T> load_some(const T* from, int64_t count) {
  Vector<T> v = {};
  for (int64_t i = 0; i < count; ++i) v[i] = from[i];
  return v;
}

template <typename T>
MF_INLINE void store_some(T* to, const Vector<T>& v, int64_t count) {
  for (int64_t i = 0; i < count; ++i) to[i] = v[i];
}

template <typename T>
MF_INLINE T sum(const Vector<T>& v) {
  T total = 0;
  for (int64_t i = 0; i < Lanes<T>::width; ++i) total += v[i];
  return total;
}

// Calls body(offset, load, store) for every vector of a row of `count` numbers, the incomplete last one included.
template <typename T, typename Body>
MF_INLINE void for_each_vector(int64_t count, Body&& body) {
  constexpr int64_t width = Lanes<T>::width;
  int64_t i = 0;
  for (; i + width <= count; i += width) {
    body(
        i, [](const T* p) MF_LAMBDA { return load<T>(p); }, [](T* p, const Vector<T>& v) MF_LAMBDA { store<T>(p, v); });
  }
  if (const int64_t rest = count - i; rest > 0) {
    body(
        i, [rest](const T* p) MF_LAMBDA { return load_some<T>(p, rest); },
        [rest](T* p, const Vector<T>& v) MF_LAMBDA { store_some<T>(p, v, rest); });
  }
}

// e^x to about one unit in the last place, clamped where the result would leave the normal numbers.
template <typename T>
MF_INLINE Vector<T> exp(Vector<T> x) {
  using L = Lanes<T>;
  using V = typename L::Vector;
  using I = typename L::Integers;
  x = x < L::lowest ? V{} + L::lowest : x;
  x = x > L::highest ? V{} + L::highest : x;
  const V shifted = x * T(1.44269504088896340736) + L::round;
  const V n = shifted - L::round;
  const V r = (x - n * L::ln2_high) - n * L::ln2_low;
  V p = V{} + T(1);
  for (int k = L::terms; k >= 1; --k) p = p * r * (T(1) / T(k)) + T(1);
  const I power = ((I)shifted - (I)(V{} + L::round) + L::bias) << L::mantissa;
  return p * (V)power;
}

}  // namespace mf
