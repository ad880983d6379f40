# SPDX-License-Identifier: MIT
defmodule GenDriver.Cluster do
  @moduledoc """
  Calls to an instance from any node: through this node's pools, or through another's.

      GenDriver.Cluster.call!("sum", :sum, [1, 2, 3, 4])  # 10.0

  The members of all pools (`GenDriver.Pool`) are found by the name of their instance. A node needs no pool of its own,
  and no route to a daemon, but the application `:gen_driver_tcp` must be started, as Mix does with a dependency.

  This is `:gen_driver_cluster` in Elixir's clothes.
  """

  alias GenDriver.Outcome

  @typedoc "An instance's name."
  @type instance :: binary() | atom()

  @typedoc "What a call gives: as `GenDriver`, or that the application is not started."
  @type result :: GenDriver.result() | :gen_driver_cluster.not_started()

  @typedoc "As those of `GenDriver.Pool`."
  @type call_options :: GenDriver.Pool.call_options()

  @doc "As `call/4`, without parameters."
  @spec call(instance, GenDriver.command()) :: result
  defdelegate call(instance, command), to: :gen_driver_cluster

  @doc "As `call/4`, for at most 5,000 ms."
  @spec call(instance, GenDriver.command(), params :: term()) :: result
  defdelegate call(instance, command, params), to: :gen_driver_cluster

  @doc """
  As `GenDriver.Pool.call/4`, with the same options: to a member on this node, if one has a link, otherwise on another.

      {:ok, 10.0} = GenDriver.Cluster.call("sum", :sum, [1, 2, 3, 4], key: {:user, 7})

  A node that is lost on the way is `{:error, {:failed, :disconnected}}`: the call may have run, and is not made again.
  """
  @spec call(instance, GenDriver.command(), params :: term(), call_options) :: result
  defdelegate call(instance, command, params, timeout_or_options), to: :gen_driver_cluster

  @doc "As `call!/4`, without parameters."
  @spec call!(instance, GenDriver.command()) :: term()
  def call!(instance, command), do: Outcome.value!(call(instance, command), command)

  @doc "As `call!/4`, for at most 5,000 ms."
  @spec call!(instance, GenDriver.command(), params :: term()) :: term()
  def call!(instance, command, params), do: Outcome.value!(call(instance, command, params), command)

  @doc "As `call/4`, but gives the value as `GenDriver.call!/4` does, or raises a `GenDriver.Error`."
  @spec call!(instance, GenDriver.command(), params :: term(), call_options) :: term()
  def call!(instance, command, params, timeout_or_options),
    do: Outcome.value!(call(instance, command, params, timeout_or_options), command)

  @doc "As `cast/4`, without parameters."
  @spec cast(instance, GenDriver.command()) :: :ok | GenDriver.failed() | :gen_driver_cluster.not_started()
  defdelegate cast(instance, command), to: :gen_driver_cluster

  @doc "As `cast/4`, without options."
  @spec cast(instance, GenDriver.command(), params :: term()) ::
          :ok | GenDriver.failed() | {:error, {:unknown_command, binary()}} | :gen_driver_cluster.not_started()
  defdelegate cast(instance, command, params), to: :gen_driver_cluster

  @doc "As `GenDriver.Pool.cast/4`, to one member, chosen as for a call."
  @spec cast(instance, GenDriver.command(), params :: term(), call_options) ::
          :ok | GenDriver.failed() | {:error, {:unknown_command, binary()}} | :gen_driver_cluster.not_started()
  defdelegate cast(instance, command, params, timeout_or_options), to: :gen_driver_cluster

  @doc """
  The members of all nodes, those of this one first.

      [pid | _] = GenDriver.Cluster.members("sum")
  """
  @spec members(instance) :: [pid()] | :gen_driver_cluster.not_started()
  defdelegate members(instance), to: :gen_driver_cluster
end
