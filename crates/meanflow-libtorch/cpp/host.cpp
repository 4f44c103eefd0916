// Asynchronous transfers, and a watch over operations that synchronise with a device.
#include <ATen/core/Tensor.h>
#include <ATen/record_function.h>

#include <array>
#include <cstdint>
#include <cstring>
#include <string_view>

#include "guarded.h"

namespace {

// Operations whose answer is a number, or a size, on the host.
constexpr std::array<std::string_view, 4> WAITING = {"aten::_local_scalar_dense", "aten::equal", "aten::nonzero",
                                                     "aten::masked_select"};

thread_local uint64_t waited = 0;
// Operations of the optimiser that are running: those read their counts of steps where they compute, which only on a CPU
// is the host.
thread_local int optimizing = 0;

bool optimizes(const at::RecordFunction& operation) {
  return std::string_view(operation.name()).substr(0, 17) == "aten::_fused_adam";
}

std::unique_ptr<at::ObserverContext> begin(const at::RecordFunction& operation) {
  if (optimizes(operation)) ++optimizing;
  for (auto name : WAITING) {
    if (optimizing == 0 && name == operation.name()) ++waited;
  }
  return nullptr;
}

void end(const at::RecordFunction& operation, at::ObserverContext*) {
  if (optimizes(operation)) --optimizing;
}

void expect_room(const at::Tensor& tensor, size_t offset, size_t count) {
  TORCH_CHECK(tensor.defined() && tensor.is_cpu() && tensor.is_contiguous(), "expected a contiguous tensor of the host");
  TORCH_CHECK(offset <= tensor.nbytes() && count <= tensor.nbytes() - offset, "expected at most ", tensor.nbytes(),
              " bytes, got bytes ", offset, " to ", offset + count);
}

}  // namespace

// A tensor of the host on a CUDA device, copied through pinned memory behind whatever the device is doing.
MF_EXPORT(mf_send_pinned, (Handle out, const at::Tensor* tensor, int64_t device), {
  auto options = tensor->options().device(at::Device(at::kCUDA, static_cast<c10::DeviceIndex>(device)));
  *out = tensor->pin_memory().to(options, /*non_blocking=*/true);
})

// Puts bytes into the memory of a contiguous tensor of the host, from this byte on.
MF_EXPORT(mf_put_bytes, (Handle tensor, size_t offset, const uint8_t* bytes, size_t count), {
  expect_room(*tensor, offset, count);
  tensor->unsafeGetTensorImpl()->bump_version();
  if (count > 0) std::memcpy(static_cast<uint8_t*>(tensor->mutable_data_ptr()) + offset, bytes, count);
})

// How many bytes a tensor has.
MF_EXPORT(mf_count_bytes, (const at::Tensor* tensor, size_t* count), { *count = tensor->nbytes(); })

MF_EXPORT(mf_watch, (uint64_t* watch), {
  *watch = at::addThreadLocalCallback(at::RecordFunctionCallback(begin, end));
})

MF_EXPORT(mf_unwatch, (uint64_t watch), { at::removeCallback(watch); })

// How many such operations this thread has run under a watch.
MF_EXPORT(mf_waited, (uint64_t* count), { *count = waited; })
