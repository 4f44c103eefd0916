// Sums over the rows of a matrix, and averages of parameters, on a CUDA device. Compiled behind quad.cu when first used.

// sums [parts, columns] of x [rows, columns], whose parts are to be added up. A block has 4 columns a lane; its warps take the rows of
// its part in turn.
extern "C" __global__ void column_sums_bf16(long long rows, int columns, int parts, const bf16* x, float* sums) {
  __shared__ Quad partial[LANES];
  const int across = (columns / 4 + LANES - 1) / LANES, part = blockIdx.x / across;
  const int at = (blockIdx.x % across) * LANES + threadIdx.x;
  const bool inside = at < columns / 4;
  const long long begin = rows * part / parts, end = rows * (part + 1) / parts;
  Quad sum = quad(0);
  if (inside) {
    const long long step = blockDim.y;
    long long row = begin + threadIdx.y;
    // Four rows at once, so that their numbers are under way together.
    for (; row + 3 * step < end; row += 4 * step) {
      const bf16* from = x + row * columns;
      const Quad a = load(from, at), b = load(from + step * columns, at), c = load(from + 2 * step * columns, at);
      sum = sum + ((a + b) + (c + load(from + 3 * step * columns, at)));
    }
    for (; row < end; row += step) sum = sum + load(x + row * columns, at);
  }
  for (int warp = 0; warp < int(blockDim.y); ++warp) {
    __syncthreads();
    if (warp == int(threadIdx.y)) partial[threadIdx.x] = warp == 0 ? sum : partial[threadIdx.x] + sum;
  }
  if (inside && threadIdx.y + 1 == blockDim.y) store(sums + (long long)part * columns, at, partial[threadIdx.x]);
}

// e := e + weight (p - e), from that end of the two whose rounding is smaller; e stays unless is_finite, whatever p is.
extern "C" __global__ void ema_update(long long count, float* e, const float* p, const float* weight, const bool* is_finite) {
  if (!*is_finite) return;
  const float w = *weight;
  const long long threads = (long long)gridDim.x * blockDim.x * blockDim.y;
  long long i = ((long long)blockIdx.x * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
  for (; i < count; i += threads) {
    const float apart = p[i] - e[i];
    e[i] = w < 0.5f ? e[i] + w * apart : p[i] - apart * (1 - w);
  }
}
