// Loops over the threads of libtorch's own OpenMP runtime, found when first asked for, so that there is only one.
#pragma once

#include <ATen/Parallel.h>
#include <dlfcn.h>

#include <algorithm>
#include <cstdint>

namespace mf {

struct OpenMp {
  using Launch = void (*)(void (*)(void*), void*, unsigned, unsigned);
  Launch launch = reinterpret_cast<Launch>(dlsym(RTLD_DEFAULT, "GOMP_parallel"));
  int (*thread)() = reinterpret_cast<int (*)()>(dlsym(RTLD_DEFAULT, "omp_get_thread_num"));
  int (*threads)() = reinterpret_cast<int (*)()>(dlsym(RTLD_DEFAULT, "omp_get_num_threads"));
  int (*inside)() = reinterpret_cast<int (*)()>(dlsym(RTLD_DEFAULT, "omp_in_parallel"));
  bool complete() const { return launch && thread && threads && inside; }

  static const OpenMp& get() {
    static const OpenMp found;
    return found;
  }
};

// body(begin, end) over parts of [0, count), each worth `work` operations an element; little work stays on this thread.
template <typename Body>
void parallel(int64_t count, int64_t work, const Body& body) {
  constexpr int64_t worthwhile = 32768;
  const auto& omp = OpenMp::get();
  const int64_t most = std::max<int64_t>(1, count * work / worthwhile);
  const int64_t threads = std::min({int64_t(at::get_num_threads()), most, count});
  if (threads <= 1 || !omp.complete() || omp.inside()) {
    if (count > 0) body(int64_t(0), count);
    return;
  }
  struct Task {
    const Body& body;
    int64_t count;
    const OpenMp& omp;
  } task{body, count, omp};
  omp.launch(
      [](void* data) {
        const auto& task = *static_cast<Task*>(data);
        const int64_t index = task.omp.thread(), parts = task.omp.threads();
        const int64_t begin = task.count * index / parts, end = task.count * (index + 1) / parts;
        if (begin < end) task.body(begin, end);
      },
      &task, unsigned(threads), 0);
}

}  // namespace mf
