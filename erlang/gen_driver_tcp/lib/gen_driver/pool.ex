# SPDX-License-Identifier: MIT
defmodule GenDriver.Pool do
  @moduledoc """
  Several connections to one instance, on one daemon or on several, and calls that find the right one.

      children = [
        {GenDriver.Pool, name: Sums, instance: "sum", endpoints: ["tcp://a:9900", "tcp://b:9900"], size: 2}
      ]

      GenDriver.Pool.call!(Sums, :sum, [1, 2, 3, 4])              # 10.0
      GenDriver.Pool.call!(Sums, :sum, numbers, key: {:user, 7})  # calls of one key: one worker, in order

  Calls go to the less loaded member; what certainly never started is tried elsewhere. Results are those of
  `GenDriver`. Options, and which member is chosen, are in docs/erlang-client.md.

  This is `:gen_driver_pool` in Elixir's clothes.
  """

  alias GenDriver.{Name, Outcome}

  @typedoc "A pool on this node: its pid or its name."
  @type pool :: GenServer.server()

  @typedoc "Of `start_link/1`: a name, and the options of `:gen_driver_pool`."
  @type option :: {:name, GenServer.name()} | {atom(), term()}

  @typedoc "How long (ms), or options: `:timeout`, `:key` (any term), `:keep`, `:hedge`, `:retries`, `:trace`."
  @type call_options :: timeout() | keyword()

  @doc """
  Starts a pool. It returns when its members are started; they connect in the background.

      {:ok, _} = GenDriver.Pool.start_link(name: Sums, instance: "sum", endpoints: ["tcp://127.0.0.1:9900"], size: 4)
  """
  @spec start_link([option]) :: {:ok, pid()} | {:error, :gen_driver_options.bad_option() | term()}
  def start_link(options) when is_list(options), do: Name.start_link(:gen_driver_pool, options)

  @doc "For a supervisor: `{GenDriver.Pool, options}` in its list of children."
  @spec child_spec([option]) :: Supervisor.child_spec()
  def child_spec(options) when is_list(options) do
    %{
      id: Name.id(__MODULE__, options),
      start: {__MODULE__, :start_link, [options]},
      type: :supervisor,
      restart: :permanent,
      shutdown: :infinity
    }
  end

  @doc "Stops a pool, and each of its members as a client is stopped."
  @spec stop(pool) :: :ok
  defdelegate stop(pool), to: :gen_driver_pool

  @doc """
  How its members are.

      %{members: [%{status: :up, load: 0} | _]} = GenDriver.Pool.info(Sums)
  """
  @spec info(pool) :: :gen_driver_pool.info()
  defdelegate info(pool), to: :gen_driver_pool

  @doc "As `call/4`, without parameters."
  @spec call(pool, GenDriver.command()) :: GenDriver.result()
  defdelegate call(pool, command), to: :gen_driver_pool

  @doc "As `call/4`, for at most 5,000 ms."
  @spec call(pool, GenDriver.command(), params :: term()) :: GenDriver.result()
  defdelegate call(pool, command, params), to: :gen_driver_pool

  @doc """
  As `GenDriver.call/4`, to one of the members.

      {:ok, 10.0} = GenDriver.Pool.call(Sums, :sum, [1, 2, 3, 4], key: {:user, 7}, timeout: 1000)

  `key:` is any term: calls of one key go to one member. `keep: true`: even while that member has no link.
  `hedge: ms`, for calls that may run twice: another member is asked after so long, and the first reply wins.
  """
  @spec call(pool, GenDriver.command(), params :: term(), call_options) :: GenDriver.result()
  defdelegate call(pool, command, params, timeout_or_options), to: :gen_driver_pool

  @doc "As `call!/4`, without parameters."
  @spec call!(pool, GenDriver.command()) :: term()
  def call!(pool, command), do: Outcome.value!(call(pool, command), command)

  @doc "As `call!/4`, for at most 5,000 ms."
  @spec call!(pool, GenDriver.command(), params :: term()) :: term()
  def call!(pool, command, params), do: Outcome.value!(call(pool, command, params), command)

  @doc "As `call/4`, but gives the value as `GenDriver.call!/4` does, or raises a `GenDriver.Error`."
  @spec call!(pool, GenDriver.command(), params :: term(), call_options) :: term()
  def call!(pool, command, params, timeout_or_options),
    do: Outcome.value!(call(pool, command, params, timeout_or_options), command)

  @doc "As `cast/4`, without parameters."
  @spec cast(pool, GenDriver.command()) :: :ok | GenDriver.failed()
  defdelegate cast(pool, command), to: :gen_driver_pool

  @doc "As `cast/4`, without options."
  @spec cast(pool, GenDriver.command(), params :: term()) ::
          :ok | GenDriver.failed() | {:error, {:unknown_command, binary()}}
  defdelegate cast(pool, command, params), to: :gen_driver_pool

  @doc """
  As `GenDriver.cast/4`, to one of the members, and to no other.

      :ok = GenDriver.Pool.cast(Logs, :write, "a line", key: :one_file, ack: true)
  """
  @spec cast(pool, GenDriver.command(), params :: term(), call_options) ::
          :ok | GenDriver.failed() | {:error, {:unknown_command, binary()}}
  defdelegate cast(pool, command, params, timeout_or_options), to: :gen_driver_pool

  @doc """
  As `GenDriver.stream/4`, from one of the members, and from no other.

      GenDriver.Pool.stream(Numbers, :count, 1000, key: {:user, 7}) |> Enum.sum()
  """
  @spec stream(pool, GenDriver.command(), params :: term(), call_options) :: Enumerable.t()
  def stream(pool, command, params \\ [], options \\ []) do
    Outcome.parts(&:gen_driver_pool.call_stream(pool, command, params, &1), command, options)
  end
end
