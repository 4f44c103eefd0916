// The affine map through oneDNN, on the tape.
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/mm.h>

#include "operation.h"

namespace {

// oneDNN's matrix product, where this libtorch has it: faster than the one behind at::linear on processors for which
// that one was not made.
Tensor onednn_linear(const Tensor& x, const Tensor& weight, const std::optional<Tensor>& bias) {
  using Signature = Tensor(const Tensor&, const Tensor&, const std::optional<Tensor>&, std::string_view,
                           c10::List<std::optional<at::Scalar>>, std::optional<std::string_view>);
  static const auto operation =
      c10::Dispatcher::singleton().findSchemaOrThrow("mkldnn::_linear_pointwise", "").typed<Signature>();
  return operation.call(x, weight, bias, "none", c10::List<std::optional<at::Scalar>>(), "");
}

struct Linear : Function<Linear> {
  static Tensor forward(AutogradContext* context, const Tensor& x, const Tensor& weight,
                        const std::optional<Tensor>& bias) {
    context->save_for_backward({x, weight});
    context->saved_data["bias"] = bias.has_value();
    return onednn_linear(x, weight, bias);
  }
  static variable_list backward(AutogradContext* context, variable_list grads) {
    once("linear");
    const auto saved = context->get_saved_variables();
    const Tensor &x = saved[0], &weight = saved[1];
    const auto g = grads[0].contiguous();
    Tensor gx, gweight, gbias;
    const auto rows = g.reshape({-1, g.size(-1)});
    if (context->needs_input_grad(0)) gx = onednn_linear(g, weight.t(), std::nullopt);
    if (context->needs_input_grad(1)) gweight = rows.t().mm(x.reshape({-1, x.size(-1)}));
    if (context->saved_data["bias"].toBool() && context->needs_input_grad(2)) gbias = rows.sum(0);
    return {gx, gweight, gbias};
  }
};

}  // namespace

extern "C" {

char* mf_linear(Handle out, Handle x, Handle weight, Handle bias) {
  return guarded([&] { *out = Linear::apply(*x, *weight, bias ? std::optional<Tensor>(*bias) : std::nullopt); });
}
}
