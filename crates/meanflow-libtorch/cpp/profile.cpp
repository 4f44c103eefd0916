// libtorch's profiler: what ran, where, and how long.
#include <torch/csrc/autograd/profiler_kineto.h>

#include <cstdint>
#include <set>
#include <string>

#include "guarded.h"

namespace {

namespace profiler = torch::autograd::profiler;

// The call that ends the profiler, which it sees begin.
constexpr const char* END = "mf_profile_end";

std::set<profiler::ActivityType> activities(bool cuda) {
  std::set<profiler::ActivityType> wanted{profiler::ActivityType::CPU};
  if (cuda) wanted.insert(profiler::ActivityType::CUDA);
  return wanted;
}

}  // namespace

// Operations of this thread, and of those that work for it, are seen from now on; with `cuda` the kernels of CUDA devices too.
MF_EXPORT(mf_profile_begin, (bool cuda), {
  const profiler::ProfilerConfig config(profiler::ProfilerState::KINETO);
  profiler::prepareProfiler(config, activities(cuda));
  profiler::enableProfiler(config, activities(cuda));
})

// Ends it, and tells every event: its name, whether a device did it, the thread or the stream, begin and end in ns.
MF_EXPORT(mf_profile_end,
          (void (*tell)(void*, const char*, size_t, bool, uint64_t, uint64_t, uint64_t), void* context), {
            const auto result = profiler::disableProfiler();
            for (const auto& event : result->events()) {
              const std::string name = event.name();
              if (name == END) continue;
              const bool device = event.deviceType() != c10::DeviceType::CPU;
              const uint64_t lane = device ? static_cast<uint64_t>(event.deviceResourceId()) : event.startThreadId();
              tell(context, name.data(), name.size(), device, lane, event.startNs(), event.endNs());
            }
          })
