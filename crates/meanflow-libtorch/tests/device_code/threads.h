// What device code needs of CUDA, on the CPU: every thread of a block is a thread, and blocks come one after another.
#pragma once

#include <array>
#include <barrier>
#include <cmath>
#include <cstring>
#include <memory>
#include <thread>
#include <vector>

#define __device__
#define __global__
#define __shared__ static
#define __launch_bounds__(count)

struct Index {
  unsigned x = 1, y = 1, z = 1;
};
inline thread_local Index threadIdx;
inline Index blockIdx, blockDim, gridDim;

// The threads of the block that runs, and those of each of its warps, wait for each other.
struct Block {
  std::barrier<> all;
  std::vector<std::unique_ptr<std::barrier<>>> warps;
  std::vector<std::array<float, 32>> lanes;
  explicit Block(unsigned count) : all(32 * count), lanes(count) {
    for (unsigned warp = 0; warp < count; ++warp) warps.push_back(std::make_unique<std::barrier<>>(32));
  }
};
inline std::unique_ptr<Block> block;

inline void __syncthreads() { block->all.arrive_and_wait(); }

inline float __shfl_xor_sync(unsigned, float value, int mask) {
  auto& lanes = block->lanes[threadIdx.y];
  lanes[threadIdx.x] = value;
  block->warps[threadIdx.y]->arrive_and_wait();
  const float other = lanes[threadIdx.x ^ mask];
  block->warps[threadIdx.y]->arrive_and_wait();
  return other;
}

inline float __uint_as_float(unsigned bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

inline unsigned __float_as_uint(float value) {
  unsigned bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}

// Runs a kernel in so many blocks of so many warps.
template <typename Kernel>
void launch(unsigned blocks, unsigned warps, const Kernel& kernel) {
  blockDim = {32, warps, 1};
  gridDim = {blocks, 1, 1};
  for (unsigned index = 0; index < blocks; ++index) {
    blockIdx = {index, 0, 0};
    block = std::make_unique<Block>(warps);
    std::vector<std::thread> threads;
    for (unsigned thread = 0; thread < 32 * warps; ++thread) {
      threads.emplace_back([&, thread] {
        threadIdx = {thread % 32, thread / 32, 0};
        kernel();
      });
    }
    for (auto& thread : threads) thread.join();
  }
}
