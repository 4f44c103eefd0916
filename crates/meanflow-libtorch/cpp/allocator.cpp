// An allocator for the CPU that keeps what a step frees for the next step.
//
// A training step asks for the same sizes again and again. libtorch's own allocator gives large ones back to the system
// each time, and the system clears every page before it hands it out again, which costs more than many operations do.
#include <c10/core/Allocator.h>
#include <c10/core/CPUAllocator.h>
#include <sys/mman.h>
#if defined(__GLIBC__)
#include <malloc.h>
#endif

#include <algorithm>
#include <array>
#include <cstdlib>
#include <mutex>
#include <vector>

#include "guarded.h"

namespace {

constexpr size_t HEADER = 64;          // before the numbers, which stay aligned to a cache line
constexpr size_t SMALL = 16 << 10;     // below, the C library is as fast
constexpr size_t HUGE_PAGE = 2 << 20;  // from here on, in pages of this size: fewer of them to clear and to look up
constexpr size_t CLASSES = 64 * 8;

struct Header {
  size_t bytes;  // of the whole block
  size_t index;  // of its class; CLASSES for a small block
};

// Eight classes an octave, so that a block is at most an eighth larger than what was asked for.
size_t class_of(size_t bytes, size_t& rounded) {
  const unsigned octave = 63 - __builtin_clzll(bytes - 1);
  const size_t step = size_t(1) << (octave - 3);
  rounded = (bytes + step - 1) / step * step;
  if (rounded >= HUGE_PAGE) rounded = (rounded + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE;
  return octave * 8 + (bytes - 1 - (size_t(1) << octave)) / step;
}

// Whole pages, aligned to huge ones where there is room for one.
void* map(size_t bytes) {
  const size_t align = bytes >= HUGE_PAGE ? HUGE_PAGE : 0;
  void* raw = mmap(nullptr, bytes + align, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (raw == MAP_FAILED) return nullptr;
  if (align == 0) return raw;
  const auto start = reinterpret_cast<uintptr_t>(raw), aligned = (start + align - 1) / align * align;
  if (aligned > start) munmap(raw, aligned - start);
  if (const size_t rest = start + align - aligned) munmap(reinterpret_cast<void*>(aligned + bytes), rest);
#if defined(MADV_HUGEPAGE)
  madvise(reinterpret_cast<void*>(aligned), bytes, MADV_HUGEPAGE);
#endif
  return reinterpret_cast<void*>(aligned);
}

class Keeping final : public c10::Allocator {
 public:
  c10::DataPtr allocate(size_t size) override {
    if (size == 0) return {nullptr, nullptr, &give, c10::Device(c10::kCPU)};
    void* block = size < SMALL ? small(size + HEADER) : large(size + HEADER);
    TORCH_CHECK(block, "cannot allocate ", size, " bytes of memory");
    void* numbers = static_cast<char*>(block) + HEADER;
    return {numbers, numbers, &give, c10::Device(c10::kCPU)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &give; }
  void copy_data(void* to, const void* from, size_t count) const override { default_copy_data(to, from, count); }

  static Keeping& get() {
    static auto* one = new Keeping;  // never destroyed: tensors may outlive main
    return *one;
  }

 private:
  static void* small(size_t bytes) {
    void* block = nullptr;
    if (posix_memalign(&block, HEADER, bytes) != 0) return nullptr;
    new (block) Header{bytes, CLASSES};
    return block;
  }

  void* large(size_t bytes) {
    size_t rounded;
    const size_t index = class_of(bytes, rounded);
    std::lock_guard<std::mutex> lock(mutex);
    auto& blocks = kept[index];
    void* block;
    if (blocks.empty()) {
      // What is kept in other sizes must not pile up beside what is in use.
      if (in_use + in_store + rounded > 2 * most) release();
      block = map(rounded);
      if (!block) return nullptr;
      new (block) Header{rounded, index};
    } else {
      block = blocks.back();
      blocks.pop_back();
      in_store -= rounded;
    }
    in_use += rounded;
    most = std::max(most, in_use);
    return block;
  }

  static void give(void* numbers) {
    if (!numbers) return;
    void* block = static_cast<char*>(numbers) - HEADER;
    const Header header = *static_cast<Header*>(block);
    if (header.index == CLASSES) return std::free(block);
    auto& self = get();
    std::lock_guard<std::mutex> lock(self.mutex);
    self.kept[header.index].push_back(block);
    self.in_use -= header.bytes;
    self.in_store += header.bytes;
  }

  void release() {
    for (auto& blocks : kept) {
      for (void* block : blocks) munmap(block, static_cast<Header*>(block)->bytes);
      blocks.clear();
    }
    in_store = 0;
  }

  std::mutex mutex;
  std::array<std::vector<void*>, CLASSES> kept;
  size_t in_use = 0, in_store = 0, most = 0;
};

// Only glibc's allocator can be told.
void give_back_early() {
#if defined(__GLIBC__)
  mallopt(M_MMAP_THRESHOLD, 64 << 10);
  mallopt(M_TRIM_THRESHOLD, 64 << 10);
#endif
}

}  // namespace

MF_EXPORT(mf_keep_memory, (), { c10::SetCPUAllocator(&Keeping::get(), /*priority=*/1); })

// From now on every tensor is mapped on its own and given back when freed, so that resident memory is live memory.
MF_EXPORT(mf_map_tensors, (), { give_back_early(); })
