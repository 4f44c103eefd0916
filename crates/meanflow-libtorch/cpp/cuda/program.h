// Programs for CUDA devices: compiled from source when first used, by the compiler that libtorch's CUDA part brings along.
//
// Nothing of CUDA can be linked here, since programs load libtorch's CUDA part when they are told to: the compiler and the
// driver are found through libtorch's own library for that, and their functions by name.
#pragma once

#include <c10/core/impl/VirtualGuardImpl.h>
#include <dlfcn.h>

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "../guarded.h"

namespace mf::cuda {

// The functions of the driver and of the compiler that are used here, as CUDA 12 and 13 declare them.
struct Library {
  using Handle = void*;
  int (*compiler_version)(int*, int*);
  int (*create)(Handle*, const char*, const char*, int, const char* const*, const char* const*);
  int (*compile)(Handle, int, const char* const*);
  int (*log_size)(Handle, size_t*);
  int (*log)(Handle, char*);
  int (*binary_size)(Handle, size_t*);
  int (*binary)(Handle, char*);
  int (*destroy)(Handle*);
  int (*attribute)(int*, int, int);
  int (*retain)(Handle*, int);
  int (*push)(Handle);
  int (*pop)(Handle*);
  int (*load)(Handle*, const void*);
  int (*function)(Handle*, Handle, const char*);
  int (*launch)(Handle, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, Handle, void**, void**);
  int (*error)(int, const char**);
  Handle (*stream)(const c10::Stream*);

  static const Library& get() {
    static const Library found;
    return found;
  }

 private:
  Library() {
    void* torch = symbol(RTLD_DEFAULT, "_ZN2at4cuda9CUDAGraphC1Eb");
    void* both = opened(folder_of(torch) + "libcaffe2_nvrtc.so");
    find(both, compiler_version, "nvrtcVersion");
    int major = 0, minor = 0;
    compiler_version(&major, &minor);
    // The compiler looks for its second half where the system's libraries are. If it cannot be opened, compiling says so.
    const auto version = std::to_string(major) + "." + std::to_string(minor);
    dlopen((folder_of(reinterpret_cast<void*>(compiler_version)) + "libnvrtc-builtins.so." + version).c_str(), RTLD_NOW);
    find(both, create, "nvrtcCreateProgram");
    find(both, compile, "nvrtcCompileProgram");
    find(both, log_size, "nvrtcGetProgramLogSize");
    find(both, log, "nvrtcGetProgramLog");
    find(both, binary_size, "nvrtcGetCUBINSize");
    find(both, binary, "nvrtcGetCUBIN");
    find(both, destroy, "nvrtcDestroyProgram");
    find(both, attribute, "cuDeviceGetAttribute");
    find(both, retain, "cuDevicePrimaryCtxRetain");
    find(both, push, "cuCtxPushCurrent_v2");
    find(both, pop, "cuCtxPopCurrent_v2");
    find(both, load, "cuModuleLoadData");
    find(both, function, "cuModuleGetFunction");
    find(both, launch, "cuLaunchKernel");
    find(both, error, "cuGetErrorString");
    // A CUDAStream is a c10::Stream and nothing else.
    find(RTLD_DEFAULT, stream, "_ZNK3c104cuda10CUDAStream6streamEv");
  }
  static void* opened(const std::string& path) {
    void* library = dlopen(path.c_str(), RTLD_NOW);
    const char* reason = library ? nullptr : dlerror();
    TORCH_CHECK(library, reason ? reason : "dlopen gave no reason");
    return library;
  }
  static void* symbol(void* library, const char* name) {
    void* found = dlsym(library, name);
    TORCH_CHECK(found, "there is no ", name);
    return found;
  }
  template <typename F>
  static void find(void* library, F& function, const char* name) {
    function = reinterpret_cast<F>(symbol(library, name));
  }
  static std::string folder_of(void* address) {
    Dl_info info{};
    TORCH_CHECK(dladdr(address, &info) && info.dli_fname, "a library of CUDA has no path");
    const std::string path = info.dli_fname;
    return path.substr(0, path.rfind('/') + 1);
  }
};

inline void expect_success(int code, const char* what) {
  if (code == 0) return;
  const char* text = nullptr;
  Library::get().error(code, &text);
  TORCH_CHECK(false, what, ": CUDA error ", code, ": ", text ? text : "unknown");
}

// A device's context, which is current as long as this lives.
class Current {
 public:
  explicit Current(Library::Handle context) { expect_success(Library::get().push(context), "use a device"); }
  ~Current() {
    Library::Handle before;
    Library::get().pop(&before);
  }
  Current(const Current&) = delete;
  Current& operator=(const Current&) = delete;
};

// Source that was compiled for a device.
class Program {
 public:
  Program(const char* source, int device, const std::vector<std::string>& definitions) {
    const auto& library = Library::get();
    expect_success(library.retain(&context, device), "use a device");
    const auto code = compiled(source, device, definitions);
    Current current(context);
    expect_success(library.load(&module, code.data()), "load kernels");
  }
  // Runs `name` with these arguments on the current stream of `device`, in blocks of so many warps.
  template <typename... Arguments>
  void run(const std::string& name, c10::Device device, int64_t blocks, unsigned warps, Arguments... arguments) {
    if (blocks == 0) return;
    TORCH_CHECK(blocks <= 0x7fffffff, "expected at most 2147483647 blocks, got ", blocks);
    const auto& library = Library::get();
    const c10::Stream stream = c10::impl::VirtualGuardImpl(device.type()).getStream(device);
    Current current(context);
    void* list[] = {&arguments...};
    expect_success(library.launch(function(name), unsigned(blocks), 1, 1, 32, warps, 1, 0, library.stream(&stream), list, nullptr),
                   name.c_str());
  }

 private:
  static std::string compiled(const char* source, int device, const std::vector<std::string>& definitions) {
    const auto& library = Library::get();
    int major = 0, minor = 0;
    // CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR.
    expect_success(library.attribute(&major, 75, device), "ask a device");
    expect_success(library.attribute(&minor, 76, device), "ask a device");
    std::vector<std::string> options = definitions;
    options.push_back("--std=c++17");
    options.push_back("--gpu-architecture=sm_" + std::to_string(major) + std::to_string(minor));
    std::vector<const char*> words;
    for (const auto& option : options) words.push_back(option.c_str());
    Library::Handle program;
    TORCH_CHECK(library.create(&program, source, "fused.cu", 0, nullptr, nullptr) == 0, "the compiler of CUDA does not start");
    const std::unique_ptr<Library::Handle, int (*)(Library::Handle*)> owner(&program, library.destroy);
    if (library.compile(program, int(words.size()), words.data()) != 0) {
      std::string log(text(program, library.log_size, library.log));
      TORCH_CHECK(false, "kernels do not compile for sm_", major, minor, ": ", log);
    }
    return text(program, library.binary_size, library.binary);
  }
  static std::string text(Library::Handle program, int (*size)(Library::Handle, size_t*), int (*get)(Library::Handle, char*)) {
    size_t length = 0;
    TORCH_CHECK(size(program, &length) == 0, "the compiler of CUDA gives no result");
    std::string result(length, '\0');
    TORCH_CHECK(get(program, result.data()) == 0, "the compiler of CUDA gives no result");
    return result;
  }
  Library::Handle function(const std::string& name) {
    const std::lock_guard<std::mutex> guard(lock);
    auto& found = functions[name];
    if (!found) expect_success(Library::get().function(&found, module, name.c_str()), name.c_str());
    return found;
  }

  Library::Handle context, module;
  std::mutex lock;
  std::map<std::string, Library::Handle> functions;
};

}  // namespace mf::cuda
