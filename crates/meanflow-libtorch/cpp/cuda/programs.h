// The programs of the devices.
#pragma once

#include <tuple>

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
inline constexpr char attention_source[] =
#include "quad.cu.inc"
#include "attention.cu.inc"
    ;

// What a program works on: sequences with rows of a size, matrices and parameters of any, short sequences with heads of a size.
enum class Subject { sequences, matrices, heads };

// The program of a device, which lives as long as the process.
inline Program& program(int64_t device, Subject subject, int64_t size = 0) {
  static std::mutex lock;
  static auto& programs = *new std::map<std::tuple<int64_t, Subject, int64_t>, std::unique_ptr<Program>>;
  const std::lock_guard<std::mutex> guard(lock);
  auto& found = programs[{device, subject, size}];
  if (found) return *found;
  const auto make = [&](const char* source, std::vector<std::string> definitions) {
    found = std::make_unique<Program>(source, int(device), definitions);
  };
  switch (subject) {
    case Subject::sequences:
      make(fused_source, {"-DWIDTH=" + std::to_string(size)});
      break;
    case Subject::matrices:
      make(columns_source, {});
      break;
    case Subject::heads:
      make(attention_source, {"-DHEAD=" + std::to_string(size)});
      break;
  }
  return *found;
}

}  // namespace mf::cuda
