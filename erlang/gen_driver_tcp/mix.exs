# SPDX-License-Identifier: MIT
# For projects that depend on this directory with Mix; rebar.config is what we build and test with.
defmodule GenDriverTcp.MixProject do
  use Mix.Project

  {:ok, [{:application, :gen_driver_tcp, keys}]} =
    :file.consult(Path.join(__DIR__, "src/gen_driver_tcp.app.src"))

  @keys keys

  def project do
    [
      app: :gen_driver_tcp,
      version: to_string(@keys[:vsn]),
      description: to_string(@keys[:description]),
      language: :erlang,
      erlc_options: [:debug_info],
      deps: []
    ]
  end

  def application, do: [mod: @keys[:mod], registered: @keys[:registered], extra_applications: [:crypto]]
end
