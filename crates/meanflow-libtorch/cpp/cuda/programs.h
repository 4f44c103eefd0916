// The programs of the devices.
#pragma once

#include "program.h"

namespace mf::cuda {

// Device code, as build.rs writes it.
inline constexpr char fused_source[] =
#include "quad.cu.inc"
#include "fused.cu.inc"
    ;
inline constexpr char columns_source[] =
#include "quad.cu.inc"
#include "columns.cu.inc"
    ;

// The program of a device for rows of so many numbers; of width 0, that for matrices and parameters of any size. Programs live
// as long as the process.
inline Program& program(int64_t device, int64_t width) {
  static std::mutex lock;
  static auto& programs = *new std::map<std::pair<int64_t, int64_t>, std::unique_ptr<Program>>;
  const std::lock_guard<std::mutex> guard(lock);
  auto& found = programs[{device, width}];
  if (!found && width == 0) found = std::make_unique<Program>(columns_source, int(device), std::vector<std::string>());
  if (!found) {
    const std::vector<std::string> definitions{"-DWIDTH=" + std::to_string(width)};
    found = std::make_unique<Program>(fused_source, int(device), definitions);
  }
  return *found;
}

}  // namespace mf::cuda
