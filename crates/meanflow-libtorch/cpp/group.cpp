// Processes that compute together: libtorch's c10d, a store in which they find each other and groups over it.
//
// Gloo's groups are linked: libtorch's CPU part exports them. NCCL's stand in the CUDA part, which is loaded when a program
// is asked to, so that they are made through their exported constructor; all else is virtual in c10d::Backend.
#include <torch/csrc/distributed/c10d/Backend.hpp>
#include <torch/csrc/distributed/c10d/HashStore.hpp>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <new>
#include <string>
#include <utility>
#include <vector>

#include "exported.h"
#include "guarded.h"

// What libtorch 2.11 frees: with another size the headers under cpp/gloo would not be those that it was built with.
// Locks are not of one size everywhere.
#if defined(__APPLE__)
constexpr size_t GLOO = 464;
#elif defined(__aarch64__)
constexpr size_t GLOO = 496;
#else
constexpr size_t GLOO = 488;
#endif
static_assert(sizeof(c10d::ProcessGroupGloo) == GLOO, "libtorch's Gloo groups have another size than its headers say");

struct Store {
  c10::intrusive_ptr<c10d::Store> inner;
};

// What every rank of a group calls in the same order.
struct Group {
  c10::intrusive_ptr<c10d::Backend> backend;
  c10::Device device;
};

namespace {

// libtorch's record of the last operations is one for the whole process, and takes a new group before its lock: groups in several
// threads crash in it. A user who sets the variable has it.
void without_flight_recorder() {
  static std::once_flag once;
  std::call_once(once, [] { setenv("TORCH_FR_BUFFER_SIZE", "0", /*overwrite=*/0); });
}

std::chrono::milliseconds duration(int64_t milliseconds) { return std::chrono::milliseconds(milliseconds); }

void give(Store** out, c10::intrusive_ptr<c10d::Store> store, int64_t milliseconds) {
  store->setTimeout(duration(milliseconds));
  *out = new Store{std::move(store)};
}

// Operations come back null where they were put on the current stream.
void finish(const c10::intrusive_ptr<c10d::Work>& work) {
  if (work) work->wait();
}

// Collectives write past the tape: here the versions of the tensors are raised.
void finish(const c10::intrusive_ptr<c10d::Work>& work, const at::Tensor& written) {
  finish(work);
  written.unsafeGetTensorImpl()->bump_version();
}

template <typename Options>
Options on_the_current_stream() {
  Options options;
  options.asyncOp = false;
  return options;
}

c10::intrusive_ptr<c10d::Backend> join_gloo(const Store* store, int rank, int size, const char* address, int64_t timeout) {
  without_flight_recorder();
  auto options = c10d::ProcessGroupGloo::Options::create(duration(timeout));
  options->devices.push_back(c10d::ProcessGroupGloo::createDeviceForHostname(address));
  // Whoever calls waits for each operation.
  options->threads = 1;
  return c10::make_intrusive<c10d::ProcessGroupGloo>(store->inner, rank, size, std::move(options));
}

// Memory for an object of libtorch's CUDA part: in 2.11 its groups have 1112 bytes and their options 248, which hold a struct
// of NCCL's that grows from version to version. It is never freed.
void* room() {
  constexpr size_t bytes = 16 << 10;
  return std::memset(::operator new(bytes), 0, bytes);
}

// One reference more than anybody gives back: its destructor would free another size than was allocated.
template <typename T>
c10::intrusive_ptr<T> kept(void* object) {
  auto pointer = c10::intrusive_ptr<T>::unsafe_steal_from_new(static_cast<T*>(object));
  auto copy = pointer;
  copy.release();
  return pointer;
}

c10::intrusive_ptr<c10d::Backend> join_nccl(const Store* store, int rank, int size, c10::Device device, int64_t timeout) {
  using Options = c10d::Backend::Options;
  // Both pointers are passed as any intrusive_ptr is, by the address of a temporary: to what is no matter.
  using Constructor = void(void*, c10::intrusive_ptr<c10d::Store>, int, int, c10::intrusive_ptr<Options>);
  auto* construct_options = mf::exported<void(void*, bool)>("_ZN4c10d16ProcessGroupNCCL7OptionsC1Eb");
  auto* construct = mf::exported<Constructor>(
      "_ZN4c10d16ProcessGroupNCCLC1EN3c1013intrusive_ptrINS_5StoreENS1_6detail34intrusive_target_default_null_typeIS3_"
      "EEEEiiNS2_INS0_7OptionsENS5_IS8_EEEE");
  void* options = room();
  construct_options(options, false);
  auto shared = kept<Options>(options);
  shared->timeout = duration(timeout);
  void* group = room();
  construct(group, store->inner, rank, size, shared);
  auto backend = kept<c10d::Backend>(group);
  // Now, since a CUDA graph cannot capture that a communicator is made.
  backend->eagerConnectSingleDevice(device);
  return backend;
}

}  // namespace

// A store for the threads of this process.
MF_EXPORT(mf_store_in_process, (Store** out, int64_t timeout), {
  give(out, c10::make_intrusive<c10d::HashStore>(), timeout);
})

// Serves a store on a socket that listens on this port of this host, and takes the socket; without one, connects to the
// store that is served there.
MF_EXPORT(mf_store_tcp, (Store** out, const char* host, uint16_t port, const int* socket, int64_t timeout), {
  c10d::TCPStoreOptions options;
  options.port = port;
  options.isServer = socket != nullptr;
  if (socket) options.masterListenFd = *socket;
  options.waitWorkers = false;
  options.timeout = duration(timeout);
  give(out, c10::make_intrusive<c10d::TCPStore>(host, options), timeout);
})

// A part of a store, whose keys are not those of its other parts.
MF_EXPORT(mf_store_scope, (Store** out, const Store* store, const char* name), {
  *out = new Store{c10::make_intrusive<c10d::PrefixStore>(name, store->inner)};
})

// Puts bytes under a key, in the place of what was there.
MF_EXPORT(mf_store_put, (Store* store, const char* key, const uint8_t* bytes, int64_t count), {
  store->inner->set(key, std::vector<uint8_t>(bytes, bytes + count));
})

// Copies the bytes under a key, if there are as many; without the key, `found` is false and nothing is waited for.
MF_EXPORT(mf_store_look, (Store* store, const char* key, uint8_t* bytes, int64_t count, bool* found), {
  std::vector<uint8_t> value;
  if (store->inner->check({key})) value = store->inner->get(key);
  *found = value.size() == static_cast<size_t>(count);
  if (*found) std::copy(value.begin(), value.end(), bytes);
})

MF_EXPORT(mf_store_free, (Store* store), { delete store; })

MF_EXPORT(mf_group_gloo, (Group** out, const Store* store, int rank, int size, const char* address, int64_t timeout), {
  *out = new Group{join_gloo(store, rank, size, address, timeout), at::kCPU};
})

MF_EXPORT(mf_group_nccl, (Group** out, const Store* store, int rank, int size, int64_t device, int64_t timeout), {
  c10::Device place(at::kCUDA, static_cast<c10::DeviceIndex>(device));
  *out = new Group{join_nccl(store, rank, size, place, timeout), place};
})

// Ends the threads of a group and its connections, once nobody of it has work to do.
MF_EXPORT(mf_group_shutdown, (Group* group), { group->backend->shutdown(); })

MF_EXPORT(mf_group_free, (Group* group), { delete group; })

MF_EXPORT(mf_group_all_reduce, (Group* group, Handle tensor), {
  std::vector<at::Tensor> tensors{*tensor};
  finish(group->backend->allreduce(tensors, on_the_current_stream<c10d::AllreduceOptions>()), *tensor);
})

MF_EXPORT(mf_group_broadcast, (Group* group, Handle tensor, int64_t root), {
  std::vector<at::Tensor> tensors{*tensor};
  auto options = on_the_current_stream<c10d::BroadcastOptions>();
  options.rootRank = root;
  finish(group->backend->broadcast(tensors, options), *tensor);
})

MF_EXPORT(mf_group_all_gather, (Group* group, Handle output, Handle input), {
  auto options = on_the_current_stream<c10d::AllgatherOptions>();
  finish(group->backend->_allgather_base(*output, *input, options), *output);
})

MF_EXPORT(mf_group_reduce_scatter, (Group* group, Handle output, Handle input), {
  auto options = on_the_current_stream<c10d::ReduceScatterOptions>();
  finish(group->backend->_reduce_scatter_base(*output, *input, options), *output);
})

MF_EXPORT(mf_group_all_to_all, (Group* group, Handle output, Handle input), {
  // Without counts everybody gets an equal part.
  std::vector<int64_t> output_counts;
  std::vector<int64_t> input_counts;
  auto options = on_the_current_stream<c10d::AllToAllOptions>();
  finish(group->backend->alltoall_base(*output, *input, output_counts, input_counts, options), *output);
})

MF_EXPORT(mf_group_barrier, (Group* group), {
  auto options = on_the_current_stream<c10d::BarrierOptions>();
  options.device = group->device;
  finish(group->backend->barrier(options));
})
