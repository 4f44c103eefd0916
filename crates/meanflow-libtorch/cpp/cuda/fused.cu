// Norm with modulation, and the gated residual, with their derivatives, on a CUDA device.
//
// Compiled behind quad.cu when first used, for rows of WIDTH numbers, a multiple of 4. A warp works on a token: its numbers are in
// registers, so that each is read once. B samples of N tokens; states are f32; Low, f32 or bf16, is the kind of what goes into
// products and comes out of them. Modulations are [B, WIDTH] with a stride between samples. What is null is zero.

constexpr int QUADS = WIDTH / 4, GROUPS = (QUADS + LANES - 1) / LANES;

// The part of a row that a lane has.
struct Row {
  Quad part[GROUPS];
};

// body(group, quad): every quad of a row that this lane has.
template <typename Body>
__device__ inline void each(Body body) {
  MF_UNROLL
  for (int group = 0; group < GROUPS; ++group) {
    const int quad = group * LANES + int(threadIdx.x);
    if (QUADS % LANES == 0 || quad < QUADS) body(group, quad);
  }
}

template <typename T>
__device__ inline Row read(const T* row) {
  Row r;
  each([&](int group, int quad) { r.part[group] = load(row, quad); });
  return r;
}

template <typename T>
__device__ inline Row read_or_zero(const T* row) {
  Row r;
  each([&](int group, int at) { r.part[group] = row ? load(row, at) : quad(0); });
  return r;
}

// The sum over a warp, in every lane of it, in an order that is the same every time.
__device__ inline float over_warp(float a) {
  for (int apart = LANES / 2; apart > 0; apart /= 2) a += __shfl_xor_sync(0xffffffffu, a, apart);
  return a;
}

template <typename Term>
__device__ inline float mean(Term term) {
  float sum = 0;
  each([&](int group, int) { sum += total(term(group)); });
  return over_warp(sum) / WIDTH;
}

template <typename T>
struct Modulation {
  const T* data;
  long long stride;
  __device__ const T* of(long long sample) const { return data ? data + sample * stride : nullptr; }
};

template <typename T>
__device__ inline T* row_of(T* data, long long row) {
  return data ? data + row * WIDTH : nullptr;
}

__device__ inline long long token_of_warp() { return blockIdx.x * (long long)blockDim.y + threadIdx.y; }

// y = (x - mean) rstd (1 + scale) + shift.
template <typename Low>
__device__ inline void norm_modulate(long long rows, int tokens, const float* x, Modulation<float> shift,
                                     Modulation<float> scale, float epsilon, Low* y, float* means, float* rstds) {
  const long long row = token_of_warp();
  if (row >= rows) return;
  Row r = read(row_of(x, row));
  const float middle = mean([&](int group) { return r.part[group]; });
  each([&](int group, int) { r.part[group] = r.part[group] - quad(middle); });
  const float rstd = 1.0f / sqrtf(mean([&](int group) { return r.part[group] * r.part[group]; }) + epsilon);
  const float *b = shift.of(row / tokens), *a = scale.of(row / tokens);
  each([&](int group, int at) {
    store(row_of(y, row), at, r.part[group] * quad(rstd) * (load(a, at) + quad(1)) + load(b, at));
  });
  if (threadIdx.x == 0) {
    means[row] = middle;
    rstds[row] = rstd;
  }
}

// r (d - mean(d) - normal mean(d normal)): the Jacobian of the normalisation, which is symmetric, times d. The rows are
// replaced by that and by the normal numbers.
__device__ inline void norm_derivative(Row& d, Row& x, float middle, float rstd) {
  each([&](int group, int) { x.part[group] = (x.part[group] - quad(middle)) * quad(rstd); });
  const float plain = mean([&](int group) { return d.part[group]; });
  const float along = mean([&](int group) { return d.part[group] * x.part[group]; });
  each([&](int group, int) {
    d.part[group] = (d.part[group] - quad(plain) - x.part[group] * quad(along)) * quad(rstd);
  });
}

template <typename Low>
__device__ inline void norm_modulate_tangent(long long rows, int tokens, const float* dx, const float* x,
                                             Modulation<float> dshift, Modulation<float> dscale, Modulation<float> scale,
                                             const float* means, const float* rstds, Low* dy) {
  const long long row = token_of_warp(), sample = row / tokens;
  if (row >= rows) return;
  Row r = read(row_of(x, row)), d = read_or_zero(row_of(dx, row));
  norm_derivative(d, r, means[row], rstds[row]);
  const Row da = read_or_zero(dscale.of(sample)), db = read_or_zero(dshift.of(sample));
  const float* a = scale.of(sample);
  each([&](int group, int at) {
    store(row_of(dy, row), at,
          d.part[group] * (load(a, at) + quad(1)) + r.part[group] * da.part[group] + db.part[group]);
  });
}

// Sums over the tokens of a block, warp after warp, into a row of the results.
__device__ inline void sum_over_block(const Row& own, float* to) {
  __shared__ Quad sum[QUADS];
  for (int warp = 0; warp < int(blockDim.y); ++warp) {
    __syncthreads();
    if (warp != int(threadIdx.y)) continue;
    each([&](int group, int at) { sum[at] = warp == 0 ? own.part[group] : sum[at] + own.part[group]; });
  }
  __syncthreads();
  if (threadIdx.y == 0) each([&](int, int at) { store(to, at, sum[at]); });
}

// The tokens of a block: one of `parts` parts of a sample, of which this warp has every blockDim.y-th.
struct Tokens {
  long long sample, row, end;
  __device__ Tokens(int tokens, int parts) : sample(blockIdx.x / parts) {
    const long long part = blockIdx.x % parts, first = sample * tokens;
    row = first + part * tokens / parts + threadIdx.y;
    end = first + (part + 1) * tokens / parts;
  }
};

// From the gradient g of y, the gradient of x, and those of shift and scale [B, parts, WIDTH], whose parts are to be added up.
template <typename Low>
__device__ inline void norm_modulate_backward(int tokens, int parts, const Low* g, const float* x, Modulation<float> scale,
                                              const float* means, const float* rstds, float* gx, float* gshift,
                                              float* gscale) {
  Tokens mine(tokens, parts);
  Row to_shift, to_scale;
  each([&](int group, int) { to_shift.part[group] = to_scale.part[group] = quad(0); });
  const float* a = scale.of(mine.sample);
  for (long long row = mine.row; row < mine.end; row += blockDim.y) {
    Row d = read(row_of(g, row)), r = read(row_of(x, row));
    const float middle = means[row], rstd = rstds[row];
    each([&](int group, int at) {
      const Quad up = d.part[group];
      to_shift.part[group] = to_shift.part[group] + up;
      to_scale.part[group] = to_scale.part[group] + up * ((r.part[group] - quad(middle)) * quad(rstd));
      d.part[group] = up * (load(a, at) + quad(1));
    });
    norm_derivative(d, r, middle, rstd);
    each([&](int group, int at) { store(row_of(gx, row), at, d.part[group]); });
  }
  sum_over_block(to_shift, row_of(gshift, blockIdx.x));
  __syncthreads();
  sum_over_block(to_scale, row_of(gscale, blockIdx.x));
}

// out = x + gate y.
template <typename Low>
__device__ inline void add_gated(long long rows, int tokens, const float* x, Modulation<float> gate, const Low* y,
                                 float* out) {
  const long long row = token_of_warp();
  if (row >= rows) return;
  const float* c = gate.of(row / tokens);
  each([&](int, int at) {
    store(row_of(out, row), at, load(row_of(x, row), at) + load(c, at) * load(row_of(y, row), at));
  });
}

// From the gradient g of the sum, that of y, and that of the gate [B, parts, WIDTH], whose parts are to be added up.
template <typename Low>
__device__ inline void add_gated_backward(int tokens, int parts, const float* g, Modulation<float> gate, const Low* y,
                                          Low* gy, float* ggate) {
  Tokens mine(tokens, parts);
  Row to_gate;
  each([&](int group, int) { to_gate.part[group] = quad(0); });
  const Row c = read(gate.of(mine.sample));
  for (long long row = mine.row; row < mine.end; row += blockDim.y) {
    each([&](int group, int at) {
      const Quad up = load(row_of(g, row), at);
      to_gate.part[group] = to_gate.part[group] + up * load(row_of(y, row), at);
      store(row_of(gy, row), at, up * c.part[group]);
    });
  }
  sum_over_block(to_gate, row_of(ggate, blockIdx.x));
}

// out = dx + dgate y + gate dy.
template <typename Low>
__device__ inline void add_gated_tangent(long long rows, int tokens, const float* dx, Modulation<float> gate,
                                         Modulation<float> dgate, const Low* y, const Low* dy, float* out) {
  const long long row = token_of_warp(), sample = row / tokens;
  if (row >= rows) return;
  const float *c = gate.of(sample), *dc = dgate.of(sample), *along = row_of(dx, row);
  const Low *other = row_of(y, row), *moved = row_of(dy, row);
  each([&](int, int at) {
    Quad sum = along ? load(along, at) : quad(0);
    if (dc) sum = sum + load(dc, at) * load(other, at);
    if (moved) sum = sum + load(c, at) * load(moved, at);
    store(row_of(out, row), at, sum);
  });
}

#define MF_ENTRIES(Low, NAME)                                                                                          \
  extern "C" __global__ void norm_modulate_##NAME(long long rows, int tokens, const float* x, Modulation<float> shift, \
                                                  Modulation<float> scale, float epsilon, Low* y, float* means,        \
                                                  float* rstds) {                                                      \
    norm_modulate(rows, tokens, x, shift, scale, epsilon, y, means, rstds);                                            \
  }                                                                                                                    \
  extern "C" __global__ void norm_modulate_tangent_##NAME(                                                             \
      long long rows, int tokens, const float* dx, const float* x, Modulation<float> dshift, Modulation<float> dscale, \
      Modulation<float> scale, const float* means, const float* rstds, Low* dy) {                                      \
    norm_modulate_tangent(rows, tokens, dx, x, dshift, dscale, scale, means, rstds, dy);                               \
  }                                                                                                                    \
  extern "C" __global__ void __launch_bounds__(256)                                                                    \
      norm_modulate_backward_##NAME(int tokens, int parts, const Low* g, const float* x, Modulation<float> scale,      \
                                    const float* means, const float* rstds, float* gx, float* gshift, float* gscale) { \
    norm_modulate_backward(tokens, parts, g, x, scale, means, rstds, gx, gshift, gscale);                              \
  }                                                                                                                    \
  extern "C" __global__ void add_gated_##NAME(long long rows, int tokens, const float* x, Modulation<float> gate,      \
                                              const Low* y, float* out) {                                              \
    add_gated(rows, tokens, x, gate, y, out);                                                                          \
  }                                                                                                                    \
  extern "C" __global__ void __launch_bounds__(256)                                                                    \
      add_gated_backward_##NAME(int tokens, int parts, const float* g, Modulation<float> gate, const Low* y, Low* gy,  \
                                float* ggate) {                                                                        \
    add_gated_backward(tokens, parts, g, gate, y, gy, ggate);                                                          \
  }                                                                                                                    \
  extern "C" __global__ void add_gated_tangent_##NAME(long long rows, int tokens, const float* dx,                     \
                                                      Modulation<float> gate, Modulation<float> dgate, const Low* y,   \
                                                      const Low* dy, float* out) {                                     \
    add_gated_tangent(rows, tokens, dx, gate, dgate, y, dy, out);                                                      \
  }

MF_ENTRIES(float, f32)
MF_ENTRIES(bf16, bf16)
