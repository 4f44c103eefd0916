// A node of the tape that keeps its inputs and computes what lies between them and its output again in the backward pass.
#include <ATen/core/grad_mode.h>
#include <ATen/core/ivalue.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>

#include <array>
#include <memory>
#include <utility>

#include "guarded.h"

namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// Computes a value, or writes why it could not into a text of this many bytes.
using Call = bool (*)(const void* closure, const at::Tensor* first, const at::Tensor* second, Handle output, char* why,
                      size_t capacity);
using Drop = void (*)(void* closure);

// The caller's function, which is given back when the last node that needs it goes.
struct Body : torch::CustomClassHolder {
  Body(std::unique_ptr<void, Drop> closure, Call call, at::Tensor result)
      : closure(std::move(closure)), call(call), result(std::move(result)) {}

  at::Tensor run(const at::Tensor& first, const at::Tensor& second) const {
    at::Tensor output;
    std::array<char, 1024> why = {};
    TORCH_CHECK(call(closure.get(), &first, &second, &output, why.data(), why.size()),
                "a block could not be computed again: ", why.data());
    return output;
  }

  std::unique_ptr<void, Drop> closure;
  Call call;
  // The output, until the node has it.
  at::Tensor result;
};

struct Checkpoint : torch::autograd::Function<Checkpoint> {
  // libtorch sees only inputs that are arguments of their own.
  static variable_list forward(AutogradContext* ctx, c10::intrusive_ptr<Body> body, at::Tensor first,
                               at::Tensor second) {
    ctx->save_for_backward({first, second});
    auto result = std::move(body->result);
    ctx->saved_data["body"] = c10::IValue::make_capsule(std::move(body));
    return {result};
  }

  static variable_list backward(AutogradContext* ctx, variable_list gradients) {
    TORCH_CHECK(!at::GradMode::is_enabled(), "a block that is computed again has no second derivative");
    variable_list leaves;
    for (auto& input : ctx->get_saved_variables()) {
      leaves.push_back(input.detach().set_requires_grad(input.requires_grad()));
    }
    auto capsule = ctx->saved_data["body"].toCapsule();
    at::Tensor output;
    {
      at::AutoGradMode on(true);
      output = static_cast<const Body*>(capsule.get())->run(leaves[0], leaves[1]);
    }
    // Gradients of parameters are added to theirs, those of the inputs to the leaves.
    torch::autograd::backward({output}, {gradients[0]});
    return {at::Tensor(), leaves[0].grad(), leaves[1].grad()};
  }
};

}  // namespace

MF_EXPORT(mf_grad_enabled, (bool* enabled), { *enabled = at::GradMode::is_enabled(); })

MF_EXPORT(mf_assign, (Handle tensor, const at::Tensor* value), { *tensor = *value; })

// Puts `out`, the value of `call` at two inputs, on the tape. Takes over the closure, also where it fails.
MF_EXPORT(mf_checkpoint,
          (Handle out, const at::Tensor* first, const at::Tensor* second, void* closure, Call call, Drop drop), {
            // Not by make_intrusive, which may fail before anything holds the closure.
            std::unique_ptr<void, Drop> held(closure, drop);
            auto body = c10::make_intrusive<Body>(std::move(held), call, *out);
            *out = Checkpoint::apply(std::move(body), *first, *second)[0];
          })
