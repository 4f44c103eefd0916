// How a function is exported: every failure becomes a message, and nothing is ever thrown at Rust.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/record_function.h>
#include <c10/util/Exception.h>
#include <torch/headeronly/version.h>

#include <cstring>

static_assert(TORCH_VERSION_MAJOR == 2 && TORCH_VERSION_MINOR == 11,
              "tch 0.24 binds libtorch 2.11, and so does what is driven by mangled names and sizes here: set LIBTORCH to a "
              "libtorch 2.11");

namespace mf {

using Handle = at::Tensor*;

// Stands for every message that there is no memory for; it is never freed.
inline char* no_memory() noexcept {
  static char text[] = "out of memory";
  return text;
}

inline char* message(const char* text) noexcept {
  char* copy = strdup(text ? text : "no reason given");
  return copy ? copy : no_memory();
}

template <typename Body>
char* guarded(const char* name, Body&& body) noexcept {
  try {
    // A profiler that runs sees the call under its name; without one this reads one number.
    RECORD_FUNCTION(name, c10::ArrayRef<const c10::IValue>{});
    body();
    return nullptr;
  } catch (const c10::Error& error) {
    return message(error.what_without_backtrace());
  } catch (const std::exception& error) {
    return message(error.what());
  } catch (...) {
    return message("an exception that is none of the standard library's");
  }
}

}  // namespace mf

using mf::Handle;

// MF_EXPORT(name, (parameters), { body }): the only way to export a function. It gives null, or a message for mf_free; results
// go through pointers.
#define MF_EXPORT(NAME, PARAMETERS, ...)                                                       \
  extern "C" char* NAME PARAMETERS noexcept {                                                  \
    return mf::guarded(#NAME, [&]() -> void __VA_ARGS__); /* the only way to the body */          \
  }
