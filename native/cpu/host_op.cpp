// An MLX operation on the CPU whose work is done by a function from outside MLX: how Quire's CPU kernels,
// which are Rust, take their place in MLX's graph and in the order of its CPU stream.

#include <functional>
#include <memory>
#include <vector>

#include "mlx/backend/cpu/encoder.h"
#include "mlx/c/error.h"
#include "mlx/c/private/mlx.h"
#include "mlx/mlx.h"
#include "mlx/primitives.h"

namespace {

using mlx::core::array;

using Run = void (*)(void* context, const void* const* inputs, void* const* outputs);
using Drop = void (*)(void* context);

class HostOp : public mlx::core::Primitive {
 public:
  HostOp(mlx::core::Stream stream, Run run, std::shared_ptr<void> context)
      : Primitive(stream), run_(run), context_(std::move(context)) {}

  void eval_cpu(const std::vector<array>& inputs, std::vector<array>& outputs) override {
    std::vector<const void*> in;
    for (const auto& input : inputs) {
      in.push_back(input.data<char>());
    }
    std::vector<void*> out;
    for (auto& output : outputs) {
      output.set_data(mlx::core::allocator::malloc(output.nbytes()));
      out.push_back(output.data<char>());
    }
    // MLX keeps the inputs' and outputs' memory until the task is done.
    auto task = [run = run_, context = context_, in = std::move(in), out = std::move(out)]() {
      run(context.get(), in.data(), out.data());
    };
    mlx::core::cpu::get_command_encoder(stream()).dispatch(std::move(task));
  }

  void eval_gpu(const std::vector<array>&, std::vector<array>&) override {
    throw std::runtime_error("[quire::HostOp] runs on a CPU stream only");
  }

  const char* name() const override { return "QuireHostOp"; }

 private:
  Run run_;
  std::shared_ptr<void> context_;
};

}  // namespace

// Makes an operation with one float32 output of this shape. `run` is called once, on the stream's thread, with
// the data of the inputs (row-contiguous, in order) and of the output; `drop` once with `context`, when the
// operation is gone, also on failure. Returns 0, or 1 after calling mlx-c's error handler.
extern "C" int quire_host_op(mlx_array* output, mlx_vector_array inputs, const int* shape, size_t dims, Run run,
                             void* context, Drop drop, mlx_stream stream) {
  try {
    std::shared_ptr<void> owned(context, drop);
    std::vector<array> contiguous;
    for (const auto& input : mlx_vector_array_get_(inputs)) {
      contiguous.push_back(mlx::core::contiguous(input, false, mlx_stream_get_(stream)));
    }
    auto op = std::make_shared<HostOp>(mlx_stream_get_(stream), run, std::move(owned));
    mlx_array_set_(*output, array(mlx::core::Shape(shape, shape + dims), mlx::core::float32, std::move(op),
                                  std::move(contiguous)));
    return 0;
  } catch (const std::exception& error) {
    mlx_error(error.what());
    return 1;
  }
}
