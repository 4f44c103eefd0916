// Numbers 4 at a time, in f32 and bf16: what the kernels of all files here work with.

struct bf16 {
  unsigned short bits;
};

#ifdef __CUDA_ARCH__
#define MF_UNROLL _Pragma("unroll")
#else
#define MF_UNROLL
#endif

struct alignas(16) Quad {
  float x, y, z, w;
};

__device__ inline Quad quad(float a) { return {a, a, a, a}; }
__device__ inline Quad operator+(Quad a, Quad b) { return {a.x + b.x, a.y + b.y, a.z + b.z, a.w + b.w}; }
__device__ inline Quad operator-(Quad a, Quad b) { return {a.x - b.x, a.y - b.y, a.z - b.z, a.w - b.w}; }
__device__ inline Quad operator*(Quad a, Quad b) { return {a.x * b.x, a.y * b.y, a.z * b.z, a.w * b.w}; }
__device__ inline float total(Quad a) { return (a.x + a.y) + (a.z + a.w); }

struct alignas(8) HalfQuad {
  bf16 x, y, z, w;
};

__device__ inline float widened(bf16 a) { return __uint_as_float(unsigned(a.bits) << 16); }

// To the nearest, ties to even; a number that is none stays none.
__device__ inline bf16 rounded(float a) {
  const unsigned bits = __float_as_uint(a);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return {(unsigned short)0x7fc0};
  return {(unsigned short)((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16)};
}

__device__ inline Quad load(const float* row, int quad) { return reinterpret_cast<const Quad*>(row)[quad]; }
__device__ inline Quad load(const bf16* row, int quad) {
  const HalfQuad half = reinterpret_cast<const HalfQuad*>(row)[quad];
  return {widened(half.x), widened(half.y), widened(half.z), widened(half.w)};
}
__device__ inline void store(float* row, int quad, Quad a) { reinterpret_cast<Quad*>(row)[quad] = a; }
__device__ inline void store(bf16* row, int quad, Quad a) {
  reinterpret_cast<HalfQuad*>(row)[quad] = {rounded(a.x), rounded(a.y), rounded(a.z), rounded(a.w)};
}

constexpr int LANES = 32;
