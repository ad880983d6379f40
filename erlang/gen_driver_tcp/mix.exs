# SPDX-License-Identifier: MIT
# For projects that depend on this directory with Mix: the Erlang client, and GenDriver, its face for Elixir.
# rebar3 knows nothing of it; erlang/rebar.config is what the Erlang sources are built and tested with.
defmodule GenDriverTcp.MixProject do
  use Mix.Project

  {:ok, [{:application, :gen_driver_tcp, keys}]} = :file.consult(Path.join(__DIR__, "src/gen_driver_tcp.app.src"))

  @keys keys

  def project do
    [
      app: :gen_driver_tcp,
      version: to_string(@keys[:vsn]),
      description: to_string(@keys[:description]),
      elixir: "~> 1.14",
      erlc_options: [:debug_info],
      test_paths: ["exunit"],
      deps: []
    ]
  end

  def application,
    do: [
      mod: @keys[:mod],
      registered: @keys[:registered],
      extra_applications: [:crypto, public_key: :optional, ssl: :optional]
    ]
end
