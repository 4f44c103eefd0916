// A node of the tape that keeps its inputs and computes what lies between them and its output again in the backward pass.
#include <ATen/core/grad_mode.h>
#include <ATen/core/ivalue.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>

#include <utility>

#include "guarded.h"

namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

using Call = bool (*)(const void* closure, const at::Tensor* first, const at::Tensor* second, Handle output);
using Drop = void (*)(void* closure);

// The caller's function, which is given back when the last node that needs it goes.
struct Body : torch::CustomClassHolder {
  Body(void* closure, Call call, Drop drop, at::Tensor result)
      : closure(closure), call(call), drop(drop), result(std::move(result)) {}
  ~Body() override { drop(closure); }

  at::Tensor run(const at::Tensor& first, const at::Tensor& second) const {
    at::Tensor output;
    TORCH_CHECK(call(closure, &first, &second, &output), "a block could not be computed again");
    return output;
  }

  void* closure;
  Call call;
  Drop drop;
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

extern "C" {

bool mf_grad_enabled() { return at::GradMode::is_enabled(); }

void mf_assign(Handle tensor, const at::Tensor* value) { *tensor = *value; }

// Puts `out`, the value of `call` at two inputs, on the tape. Takes over the closure, also where it fails.
char* mf_checkpoint(Handle out, const at::Tensor* first, const at::Tensor* second, void* closure, Call call,
                    Drop drop) {
  return guarded([&] {
    auto body = c10::make_intrusive<Body>(closure, call, drop, *out);
    *out = Checkpoint::apply(std::move(body), *first, *second)[0];
  });
}
}
