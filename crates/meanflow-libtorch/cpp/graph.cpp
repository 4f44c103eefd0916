// CUDA graphs: work that is recorded on a stream of its own and done again with one call.
//
// Programs are linked with the CPU part of libtorch alone and load the CUDA part when they are told to, so nothing of it
// can be linked here. Streams come from c10's registry of devices; at::cuda::CUDAGraph is driven through its exported
// members.
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <utility>

#include "exported.h"
#include "guarded.h"

namespace {

using mf::exported;

// at::cuda::CUDAGraph, which has 104 bytes in libtorch 2.11; Recorder's caller has made sure that no other is loaded.
class CudaGraph {
 public:
  CudaGraph() { exported<void(void*, bool)>("_ZN2at4cuda9CUDAGraphC1Eb")(memory, false); }
  ~CudaGraph() { exported<void(void*)>("_ZN2at4cuda9CUDAGraphD1Ev")(memory); }
  CudaGraph(const CudaGraph&) = delete;
  CudaGraph& operator=(const CudaGraph&) = delete;

  // Other threads may go on allocating: cudaStreamCaptureModeThreadLocal.
  void begin() {
    constexpr int thread_local_mode = 1;
    using Pool = std::pair<unsigned long long, unsigned long long>;
    exported<void(void*, Pool, int)>("_ZN2at4cuda9CUDAGraph13capture_beginESt4pairIyyE21cudaStreamCaptureMode")(
        memory, Pool{0, 0}, thread_local_mode);
  }
  void end() { exported<void(void*)>("_ZN2at4cuda9CUDAGraph11capture_endEv")(memory); }
  void replay() { exported<void(void*)>("_ZN2at4cuda9CUDAGraph6replayEv")(memory); }

 private:
  alignas(std::max_align_t) std::byte memory[1024];
};

}  // namespace

// A stream beside the default one, and what was recorded on it.
struct Recorder {
  explicit Recorder(c10::Device device)
      : guard(device.type()), device(device), stream(guard.getStreamFromGlobalPool(device)) {}

  void enter() {
    guard.synchronizeDevice(device.index());
    inside.emplace(stream);
  }
  void begin() {
    // A recording has memory of its own and may not take what the steps before it left in the allocator: without this, a step
    // takes its memory twice.
    at::getDeviceAllocator(at::kCUDA)->emptyCache();
    graph.emplace().begin();
  }
  void end() {
    TORCH_CHECK(graph, "no recording was begun");
    graph->end();
  }
  void leave() {
    inside.reset();
    guard.synchronizeDevice(device.index());
  }

  c10::impl::VirtualGuardImpl guard;
  c10::Device device;
  c10::Stream stream;
  std::optional<c10::StreamGuard> inside;
  std::optional<CudaGraph> graph;
};

MF_EXPORT(mf_recorder_new, (Recorder** out, int64_t device), {
  *out = new Recorder({at::kCUDA, static_cast<c10::DeviceIndex>(device)});
})

MF_EXPORT(mf_recorder_free, (Recorder* recorder), { delete recorder; })

// From here to mf_recorder_leave everything happens on the recorder's stream.
MF_EXPORT(mf_recorder_enter, (Recorder* recorder), { recorder->enter(); })

MF_EXPORT(mf_recorder_leave, (Recorder* recorder), { recorder->leave(); })

// From here to mf_recorder_end nothing happens: it is recorded.
MF_EXPORT(mf_recorder_begin, (Recorder* recorder), { recorder->begin(); })

MF_EXPORT(mf_recorder_end, (Recorder* recorder), { recorder->end(); })

// Forgets what was recorded.
MF_EXPORT(mf_recorder_forget, (Recorder* recorder), { recorder->graph.reset(); })

// Does what was recorded, behind whatever the current stream is doing.
MF_EXPORT(mf_recorder_replay, (Recorder* recorder), {
  TORCH_CHECK(recorder->graph, "nothing was recorded");
  recorder->graph->replay();
})

// Says that these tensors have changed: a replay does not.
MF_EXPORT(mf_changed, (const Handle* tensors, size_t count), {
  for (size_t i = 0; i < count; ++i) tensors[i]->unsafeGetTensorImpl()->bump_version();
})
