// CUDA kernels of Quire's own in MLX's graph. MLX's own way to custom kernels puts its headers before them, whose
// parsing takes more than a second for each kernel and process; these are compiled alone, in a few hundredths.

#include <dlfcn.h>

#include <array>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "mlx/c/error.h"
#include "mlx/c/private/mlx.h"
#include "mlx/fast.h"
#include "mlx/mlx.h"

namespace {

// NVRTC, CUDA's run-time compiler: a library that MLX's CUDA build brings and other builds do not.
struct Nvrtc {
  using Program = void*;
  int (*create)(Program*, const char* source, const char* name, int, const char* const*, const char* const*);
  int (*compile)(Program, int count, const char* const* options);
  int (*log_size)(Program, size_t*);
  int (*log)(Program, char*);
  int (*ptx_size)(Program, size_t*);
  int (*ptx)(Program, char*);
  int (*destroy)(Program*);
};

void* open_nvrtc() {
  for (const char* name : {"libnvrtc.so.13", "libnvrtc.so.12"}) {
    // MLX has loaded it, if it is there at all.
    if (void* handle = dlopen(name, RTLD_LAZY | RTLD_NOLOAD)) {
      return handle;
    }
  }
  return nullptr;
}

const Nvrtc& nvrtc() {
  static const Nvrtc found = [] {
    void* handle = open_nvrtc();
    if (handle == nullptr) {
      throw std::runtime_error("CUDA's run-time compiler (libnvrtc) is not loaded");
    }
    Nvrtc nvrtc{};
    auto find = [handle](auto& function, const char* name) {
      function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(dlsym(handle, name));
      if (function == nullptr) {
        throw std::runtime_error(std::string("CUDA's run-time compiler has no ") + name);
      }
    };
    find(nvrtc.create, "nvrtcCreateProgram");
    find(nvrtc.compile, "nvrtcCompileProgram");
    find(nvrtc.log_size, "nvrtcGetProgramLogSize");
    find(nvrtc.log, "nvrtcGetProgramLog");
    find(nvrtc.ptx_size, "nvrtcGetPTXSize");
    find(nvrtc.ptx, "nvrtcGetPTX");
    find(nvrtc.destroy, "nvrtcDestroyProgram");
    return nvrtc;
  }();
  return found;
}

std::string compile(const char* source, const char* name) {
  const Nvrtc& compiler = nvrtc();
  Nvrtc::Program raw = nullptr;
  if (compiler.create(&raw, source, name, 0, nullptr, nullptr) != 0) {
    throw std::runtime_error("CUDA's run-time compiler took no source");
  }
  std::unique_ptr<void, void (*)(void*)> program(raw, [](void* own) { nvrtc().destroy(&own); });
  // The oldest chips with tensor cores for bfloat16; the driver translates it for newer ones, and keeps the result.
  const char* options[] = {"--gpu-architecture=compute_80", "--device-as-default-execution-space"};
  if (compiler.compile(raw, 2, options) != 0) {
    size_t size = 0;
    compiler.log_size(raw, &size);
    std::string log(size, '\0');
    if (size > 0) {
      compiler.log(raw, log.data());
    }
    throw std::runtime_error("the kernel does not compile: " + std::string(log.c_str()));
  }
  size_t size = 0;
  std::string ptx;
  if (compiler.ptx_size(raw, &size) == 0 && size > 0) {
    ptx.resize(size);
  }
  if (ptx.empty() || compiler.ptx(raw, ptx.data()) != 0) {
    throw std::runtime_error("CUDA's run-time compiler gave no code");
  }
  return ptx;
}

// As many sizes as are kept: those of decoding, and prompts come in any length.
constexpr size_t most_launches = 64;

// A kernel: the name of its function, its code in CUDA's assembly language, and the operations that launch it. Making
// one copies the code, so those of the same sizes share one.
struct Kernel {
  std::string name;
  std::string ptx;
  std::map<std::array<int, 8>, std::shared_ptr<mlx::core::Primitive>> launches;
};

}  // namespace

// Compiles a kernel: `source` has a function `name` with C linkage. Returns it, or NULL with the reason, cut to
// `size` bytes and a zero at the end, in `why`.
extern "C" void* quire_cuda_kernel_new(const char* source, const char* name, char* why, size_t size) {
  try {
    return new Kernel{name, compile(source, name), {}};
  } catch (const std::exception& error) {
    if (size > 0) {
      why[std::string(error.what()).copy(why, size - 1)] = '\0';
    }
    return nullptr;
  }
}

extern "C" void quire_cuda_kernel_free(void* kernel) {
  delete static_cast<Kernel*>(kernel);
}

// Adds a launch to the graph. The kernel's arguments are pointers to the inputs, which are made contiguous, then to
// the outputs. `shapes` has the outputs' shapes one after the other. `grid` is in threads; a group has `shared` bytes of
// memory beyond what the kernel declares. Appends the outputs to `results`. Returns 0, or 1 after calling mlx-c's error
// handler. One thread at a time.
extern "C" int quire_cuda_kernel_apply(mlx_vector_array results, void* kernel, mlx_vector_array inputs,
                                       size_t outputs, const int* shapes, const size_t* ranks,
                                       const mlx_dtype* dtypes, const int grid[3], const int group[3],
                                       int shared, mlx_stream stream) {
  try {
    auto* own = static_cast<Kernel*>(kernel);
    std::vector<mlx::core::Shape> output_shapes;
    std::vector<mlx::core::Dtype> output_dtypes;
    for (size_t i = 0; i < outputs; shapes += ranks[i], i++) {
      output_shapes.emplace_back(shapes, shapes + ranks[i]);
      output_dtypes.push_back(mlx_dtype_to_cpp(dtypes[i]));
    }
    const auto on = mlx_stream_get_(stream);
    const std::array<int, 8> sizes = {grid[0], grid[1], grid[2], group[0], group[1], group[2], shared, on.index};
    if (own->launches.size() >= most_launches && own->launches.count(sizes) == 0) {
      own->launches.clear();
    }
    auto& launch = own->launches[sizes];
    std::vector<mlx::core::array> arrays;
    if (launch) {
      arrays = mlx::core::array::make_arrays(output_shapes, output_dtypes, launch, mlx_vector_array_get_(inputs));
    } else {
      arrays = mlx::core::fast::precompiled_cuda_kernel(
          own->name, own->ptx, mlx_vector_array_get_(inputs), output_shapes, output_dtypes, {},
          {grid[0], grid[1], grid[2]}, {group[0], group[1], group[2]}, shared, std::nullopt, true, on);
      launch = arrays.at(0).primitive_ptr();
    }
    for (auto& array : arrays) {
      mlx_vector_array_get_(results).push_back(array);
    }
    return 0;
  } catch (const std::exception& error) {
    mlx_error(error.what());
    return 1;
  }
}
