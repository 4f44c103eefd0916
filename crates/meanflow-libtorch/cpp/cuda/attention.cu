// The tangent of softmax attention over short sequences, on a CUDA device. Compiled behind quad.cu when first used, for heads of
// HEAD numbers, an even number up to 80.
//
// A block works on one head of one sample, of at most TOKENS tokens: queries and keys with their tangents are in shared memory, scores
// and probabilities in registers, then values take the place of the keys. Products are of bf16 and add up in f32.

constexpr int TOKENS = 64, TILE = 16, EACH = TOKENS / TILE;
// A row of numbers, and one word more: the rows that a warp reads at once lie in different banks.
constexpr int WORDS = (HEAD > TOKENS ? HEAD : TOKENS) / 2 + 1, OUTPUTS = (HEAD + TILE - 1) / TILE;

struct Pair {
  float low, high;
};

__device__ inline Pair pair(unsigned word) { return {__uint_as_float(word << 16), __uint_as_float(word & 0xffff0000u)}; }
__device__ inline float one(const unsigned* row, int i) {
  return __uint_as_float(i % 2 == 0 ? row[i / 2] << 16 : row[i / 2] & 0xffff0000u);
}

// Tokens of one part of the packed projections into shared memory; zeros behind them.
__device__ inline void fetch(unsigned* to, const bf16* from, int tokens, int stride) {
  const int thread = threadIdx.y * LANES + threadIdx.x, threads = blockDim.y * LANES;
  for (int i = thread; i < TOKENS * (HEAD / 2); i += threads) {
    const int token = i / (HEAD / 2), word = i % (HEAD / 2);
    const bf16* row = from + (long long)token * stride;
    to[token * WORDS + word] = token < tokens ? reinterpret_cast<const unsigned*>(row)[word] : 0u;
  }
}

// Over the TILE lanes that share a row.
template <typename Join>
__device__ inline float over_row(float a, Join join) {
  for (int apart = TILE / 2; apart > 0; apart /= 2) a = join(a, __shfl_xor_sync(0xffffffffu, a, apart));
  return a;
}

__device__ inline void put(unsigned* row, int i, float value) { reinterpret_cast<bf16*>(row)[i] = rounded(value); }

// packed and dpacked [B, tokens, 3 heads HEAD] to out [B, tokens, heads HEAD]; a block of 8 warps for every head of every sample.
extern "C" __global__ void __launch_bounds__(256)
    attention_tangent_bf16(int heads, int tokens, float scale, const bf16* packed, const bf16* dpacked, bf16* out) {
  __shared__ unsigned q[TOKENS * WORDS], k[TOKENS * WORDS], dq[TOKENS * WORDS], dk[TOKENS * WORDS];
  const long long sample = blockIdx.x / heads;
  const int head = blockIdx.x % heads, width = heads * HEAD, stride = 3 * width;
  const bf16 *from = packed + sample * tokens * stride + head * HEAD, *along = dpacked + (from - packed);
  fetch(q, from, tokens, stride);
  fetch(dq, along, tokens, stride);
  fetch(k, from + width, tokens, stride);
  fetch(dk, along + width, tokens, stride);
  __syncthreads();
  // This thread has the rows y, y + TILE … and the columns x, x + TILE ….
  const int x = threadIdx.x % TILE, y = threadIdx.y * (LANES / TILE) + threadIdx.x / TILE;
  float s[EACH][EACH] = {}, ds[EACH][EACH] = {};
  for (int word = 0; word < HEAD / 2; ++word) {
    Pair a[EACH], da[EACH], b[EACH], db[EACH];
    MF_UNROLL
    for (int i = 0; i < EACH; ++i) {
      a[i] = pair(q[(y + i * TILE) * WORDS + word]), da[i] = pair(dq[(y + i * TILE) * WORDS + word]);
      b[i] = pair(k[(x + i * TILE) * WORDS + word]), db[i] = pair(dk[(x + i * TILE) * WORDS + word]);
    }
    MF_UNROLL
    for (int i = 0; i < EACH; ++i) {
      MF_UNROLL
      for (int j = 0; j < EACH; ++j) {
        s[i][j] += a[i].low * b[j].low + a[i].high * b[j].high;
        ds[i][j] += da[i].low * b[j].low + da[i].high * b[j].high + a[i].low * db[j].low + a[i].high * db[j].high;
      }
    }
  }
  __syncthreads();
  MF_UNROLL
  for (int i = 0; i < EACH; ++i) {
    const float nothing = __uint_as_float(0xff800000u);
    float most = nothing, sum = 0, mean = 0;
    MF_UNROLL
    for (int j = 0; j < EACH; ++j) {
      s[i][j] = x + j * TILE < tokens ? s[i][j] * scale : nothing;
      most = s[i][j] > most ? s[i][j] : most;
    }
    most = over_row(most, [](float a, float b) { return a > b ? a : b; });
    MF_UNROLL
    for (int j = 0; j < EACH; ++j) {
      s[i][j] = expf(s[i][j] - most);
      sum += s[i][j];
    }
    sum = over_row(sum, [](float a, float b) { return a + b; });
    MF_UNROLL
    for (int j = 0; j < EACH; ++j) {
      s[i][j] /= sum;
      ds[i][j] *= scale;
      mean += s[i][j] * ds[i][j];
    }
    mean = over_row(mean, [](float a, float b) { return a + b; });
    MF_UNROLL
    for (int j = 0; j < EACH; ++j) {
      put(q + (y + i * TILE) * WORDS, x + j * TILE, s[i][j]);
      put(dq + (y + i * TILE) * WORDS, x + j * TILE, s[i][j] * (ds[i][j] - mean));
    }
  }
  fetch(k, from + 2 * width, tokens, stride);
  fetch(dk, along + 2 * width, tokens, stride);
  __syncthreads();
  float o[EACH][OUTPUTS] = {};
  for (int word = 0; word < TOKENS / 2; ++word) {
    Pair p[EACH], dp[EACH];
    MF_UNROLL
    for (int i = 0; i < EACH; ++i) {
      p[i] = pair(q[(y + i * TILE) * WORDS + word]), dp[i] = pair(dq[(y + i * TILE) * WORDS + word]);
    }
    MF_UNROLL
    for (int j = 0; j < OUTPUTS; ++j) {
      const int column = x + j * TILE;
      if (HEAD % TILE != 0 && column >= HEAD) continue;
      const unsigned *low = k + 2 * word * WORDS, *dlow = dk + 2 * word * WORDS;
      const float v0 = one(low, column), v1 = one(low + WORDS, column);
      const float dv0 = one(dlow, column), dv1 = one(dlow + WORDS, column);
      MF_UNROLL
      for (int i = 0; i < EACH; ++i) o[i][j] += p[i].low * dv0 + p[i].high * dv1 + dp[i].low * v0 + dp[i].high * v1;
    }
  }
  bf16* to = out + sample * tokens * width + head * HEAD;
  MF_UNROLL
  for (int i = 0; i < EACH; ++i) {
    const int token = y + i * TILE;
    if (token >= tokens) continue;
    MF_UNROLL
    for (int j = 0; j < OUTPUTS; ++j) {
      const int column = x + j * TILE;
      if (column < HEAD) to[(long long)token * width + column] = rounded(o[i][j]);
    }
  }
}
