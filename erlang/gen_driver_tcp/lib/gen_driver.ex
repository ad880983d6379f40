# SPDX-License-Identifier: MIT
defmodule GenDriver do
  @moduledoc """
  Calls to C drivers that gendriverd hosts outside the virtual machine.

      children = [
        {GenDriver, name: Sum, connect: "tcp://127.0.0.1:9900", instance: "sum"}
      ]

      GenDriver.call(Sum, :sum, [1, 2, 3, 4])        # {:ok, 10.0}
      GenDriver.call!(Sum, :sum, [1, 2, 3, 4])       # 10.0
      GenServer.call(Sum, {:port, 1, [1, 2, 3, 4]})  # {:ok, 10.0}, as with the original

  A client is a process with one connection to one instance, for any number of callers. It connects in the
  background, and anew whenever the link is lost. `GenDriver.Pool` has several of them, and `GenDriver.Cluster` calls
  through those of any node.

  ## Outcomes
  What the driver says comes as it is. What the service or the client has to say is one of:

    * `{:error, {:failed, reason}}`: there is no reply; `retryable?/1` tells whether the call certainly never started;
    * `{:error, {:unknown_command, name}}`: the driver declares no command of this name.

  `call!/4` and `stream/4` raise a `GenDriver.Error` instead. Where there is no client of that name, calls exit as
  those of `GenServer` do.

  This is `:gen_driver_tcp` in Elixir's clothes, and returns exactly what that returns.
  """

  alias GenDriver.{Name, Outcome}

  @typedoc "A client: its pid or its name."
  @type client :: GenServer.server()

  @typedoc "A number, or the name of a command that the driver declares."
  @type command :: :gen_driver_tcp.command()

  @typedoc "What the driver says; the service's own word; or a name that the driver has not declared."
  @type result :: :gen_driver_tcp.result()

  @typedoc "The service's own word: there is no reply."
  @type failed :: :gen_driver_tcp.failed()

  @typedoc "Of `start_link/1`: a name, as `GenServer` takes it, and the options of `:gen_driver_tcp`."
  @type option :: {:name, GenServer.name()} | :gen_driver_options.option()

  @typedoc "How long (ms), or options: `:timeout`, `:key` (one key, one worker, in order), `:trace`."
  @type request_options :: timeout() | [timeout: timeout(), key: 0..0xFFFFFFFF, trace: binary()]

  @typedoc "Those of a request, and `:ack`."
  @type cast_options ::
          timeout() | [timeout: timeout(), key: 0..0xFFFFFFFF, trace: binary(), ack: boolean()]

  @typedoc "Those of a request, and `:credit`: how many parts may be on their way or unread."
  @type stream_options ::
          timeout() | [timeout: timeout(), key: 0..0xFFFFFFFF, trace: binary(), credit: pos_integer()]

  @typedoc "A call whose answer comes later."
  @type request_id :: :gen_driver_tcp.request_id()

  @typedoc "Its answer; an error says that the client has ended, or was not there."
  @type response :: :gen_driver_tcp.response()

  # Clients

  @doc """
  Starts a client. It returns at once: connecting goes on in the background, and calls wait meanwhile.

      {:ok, pid} = GenDriver.start_link(instance: "sum")
      {:ok, _} = GenDriver.start_link(name: Sum, connect: "unix:/run/gendriverd/gendriverd.sock", instance: "sum")

  `:name` is an atom, `{:global, term}` or `{:via, module, term}`. The instance must be given; the other options are
  those of `:gen_driver_tcp`, in docs/erlang-client.md. A wrong one is `{:error, {:bad_option, culprit}}`.
  """
  @spec start_link([option]) :: {:ok, pid()} | {:error, :gen_driver_options.bad_option() | term()}
  def start_link(options) when is_list(options), do: Name.start_link(:gen_driver_tcp, options)

  @doc """
  For a supervisor: `{GenDriver, options}` in its list of children.

  The id is made from the name, otherwise the instance, so that several clients go into one list. The supervisor
  prints its children's options: give a key for `:auth` as a captured function, `&MyApp.key/0`.
  """
  @spec child_spec([option]) :: Supervisor.child_spec()
  def child_spec(options) when is_list(options) do
    %{
      id: Name.id(__MODULE__, options),
      start: {__MODULE__, :start_link, [options]},
      type: :worker,
      restart: :permanent,
      shutdown: 5000
    }
  end

  @doc """
  Stops a client. Casts that were taken go out; calls without an answer hear `:disconnected`, or `:unavailable` if they
  were not sent.

      :ok = GenDriver.stop(Sum)
  """
  @spec stop(client) :: :ok
  defdelegate stop(client), to: :gen_driver_tcp

  @doc """
  Waits until the instance has welcomed this client, or the attempt under way has failed.

      :ok = GenDriver.await(Sum)
      {:error, :econnrefused} = GenDriver.await(Away, 1000)
  """
  @spec await(client, timeout()) :: :ok | {:error, term()}
  def await(client, timeout \\ 5000), do: :gen_driver_tcp.await(client, timeout)

  @doc """
  Whether the host's loop answers, over the link that calls take.

      :pong = GenDriver.ping(Sum)
  """
  @spec ping(client, timeout()) :: :pong | {:error, :unavailable | :disconnected | :timeout | term()}
  def ping(client, timeout \\ 5000), do: :gen_driver_tcp.ping(client, timeout)

  @doc """
  How the client is: connected or not, what is in flight, what waits.

      %{status: :up, in_flight: 0} = GenDriver.info(Sum)
  """
  @spec info(client) :: :gen_driver_tcp.info()
  defdelegate info(client), to: :gen_driver_tcp

  # Calls and casts

  @doc "As `call/4`, without parameters: the driver gets the empty list."
  @spec call(client, command) :: result
  defdelegate call(client, command), to: :gen_driver_tcp

  @doc "As `call/4`, for at most 5,000 ms."
  @spec call(client, command, params :: term()) :: result
  defdelegate call(client, command, params), to: :gen_driver_tcp

  @doc """
  What the driver says, or the service's own word, `{:error, {:failed, reason}}`.

      {:ok, 10.0} = GenDriver.call(Sum, :sum, [1, 2, 3, 4])
      {:ok, 10.0} = GenDriver.call(Sum, 1, [1, 2, 3, 4], 1000)
      {:ok, 10.0} = GenDriver.call(Sum, "sum", [1, 2, 3, 4], timeout: 1000, key: 7)

  The deadline travels along: a call that cannot begin in time never runs, and is `{:error, {:failed, :expired}}`.
  """
  @spec call(client, command, params :: term(), request_options) :: result
  defdelegate call(client, command, params, timeout_or_options), to: :gen_driver_tcp

  @doc "As `call!/4`, without parameters."
  @spec call!(client, command) :: term()
  def call!(client, command), do: Outcome.value!(call(client, command), command)

  @doc "As `call!/4`, for at most 5,000 ms."
  @spec call!(client, command, params :: term()) :: term()
  def call!(client, command, params), do: Outcome.value!(call(client, command, params), command)

  @doc """
  The value of `{:ok, value}`; any other term as it is, `:ok` too; for `{:error, _}` it raises a `GenDriver.Error`.

      10.0 = GenDriver.call!(Sum, :sum, [1, 2, 3, 4])

      try do
        GenDriver.call!(Sum, :sum, numbers, 1000)
      rescue
        error in GenDriver.Error -> {error.source, error.reason, error.retryable}
      end
  """
  @spec call!(client, command, params :: term(), request_options) :: term()
  def call!(client, command, params, timeout_or_options),
    do: Outcome.value!(call(client, command, params, timeout_or_options), command)

  @doc "As `cast/4`, without parameters."
  @spec cast(client, command) :: :ok | failed
  defdelegate cast(client, command), to: :gen_driver_tcp

  @doc "As `cast/4`, without options."
  @spec cast(client, command, params :: term()) :: :ok | failed
  defdelegate cast(client, command, params), to: :gen_driver_tcp

  @doc """
  Has a command run and never hears of it.

      :ok = GenDriver.cast(Log, :write, "a line")
      :ok = GenDriver.cast(Log, :write, "a line", ack: true)

  `:ok` says that it was taken, no more: without a link it is dropped, logged, and counted in `info/1`. With
  `ack: true` the caller waits, and `:ok` says that it is on its way to the host; anything else that it was dropped,
  and why.
  """
  @spec cast(client, command, params :: term(), cast_options) ::
          :ok | failed | {:error, {:unknown_command, binary()}}
  defdelegate cast(client, command, params, timeout_or_options), to: :gen_driver_tcp

  @doc """
  Whether the call that gave this result certainly never started, so that it may be made again.

      GenDriver.retryable?({:error, {:failed, :overloaded}})  # true
      GenDriver.retryable?({:error, {:failed, :crashed}})     # false: it may have run
      GenDriver.retryable?({:ok, 10.0})                       # false

  A driver whose own replies look like `{:error, {:failed, _}}` misleads it.
  """
  @spec retryable?(result) :: boolean()
  def retryable?(result), do: :gen_driver_tcp.retryable(result)

  # Requests that are answered later

  @doc "As `send_request/4`, without parameters."
  @spec send_request(client, command) :: request_id
  defdelegate send_request(client, command), to: :gen_driver_tcp

  @doc "As `send_request/4`, without a deadline."
  @spec send_request(client, command, params :: term()) :: request_id
  defdelegate send_request(client, command, params), to: :gen_driver_tcp

  @doc """
  Makes a call and does not wait: the answer is for one of the functions below.

      request = GenDriver.send_request(Sum, :sum, [1, 2, 3, 4])
      {:reply, {:ok, 10.0}} = GenDriver.receive_response(request, 5000)

  A timeout is the deadline that travels along; how long to wait is said when waiting. Collections of requests are in
  `:gen_driver_tcp`, `:gen_driver_tcp.reqids_new/0` and the functions beside it.
  """
  @spec send_request(client, command, params :: term(), request_options) :: request_id
  defdelegate send_request(client, command, params, timeout_or_options), to: :gen_driver_tcp

  @doc """
  Waits for the answer. After `:timeout` the call is given up: cancelled if it has not begun, and its answer, should one
  come, is thrown away.

      {:reply, result} = GenDriver.receive_response(request, 5000)
  """
  @spec receive_response(request_id, timeout() | {:abs, integer()}) :: response | :timeout
  defdelegate receive_response(request, timeout), to: :gen_driver_tcp

  @doc """
  As `receive_response/2`, but after `:timeout` one may wait again.

      with :timeout <- GenDriver.wait_response(request, 100), do: GenDriver.wait_response(request, 5000)
  """
  @spec wait_response(request_id, timeout() | {:abs, integer()}) :: response | :timeout
  defdelegate wait_response(request, timeout), to: :gen_driver_tcp

  @doc """
  For a process that receives for itself: the answer in a message, if it is one, otherwise `:no_reply`.

      def handle_info(message, %{request: request} = state) do
        case GenDriver.check_response(message, request) do
          {:reply, result} -> {:noreply, %{state | result: result}}
          {:error, {reason, _client}} -> {:stop, reason, state}
          :no_reply -> {:noreply, state}
        end
      end
  """
  @spec check_response(message :: term(), request_id) :: response | :no_reply
  defdelegate check_response(message, request), to: :gen_driver_tcp

  # Streams and notes

  @doc """
  The parts that a driver gives before it replies, as a lazy enumerable.

      GenDriver.stream(Numbers, :count, 1000) |> Enum.sum()
      GenDriver.stream(Numbers, :count, 1_000_000_000, credit: 64) |> Enum.take(10)

  The call is made when the enumeration begins, anew each time. No more than `:credit` parts (16 unless said) are on
  their way or unread: a reader that is slow makes the driver wait. A reader that halts early, raises or ends has the
  call cancelled. `:timeout` is for the whole of it, infinity unless said.

  When the driver's reply, or the service's word, is `{:error, _}` it raises a `GenDriver.Error` behind the last part;
  any other reply ends the enumeration and is not seen. `:gen_driver_tcp.call_stream/4` gives it.
  """
  @spec stream(client, command, params :: term(), stream_options) :: Enumerable.t()
  def stream(client, command, params \\ [], options \\ []) do
    Outcome.parts(&:gen_driver_tcp.call_stream(client, command, params, &1), command, options)
  end

  @doc """
  Has the driver's notes sent to `pid`, until it ends or unsubscribes.

      {:ok, ref} = GenDriver.subscribe(Sensor)

      receive do
        {:gen_driver_note, ^ref, note} -> note
        {:gen_driver_gap, ^ref} -> :there_may_have_been_notes_in_between
      end
  """
  @spec subscribe(client, pid()) :: {:ok, reference()}
  def subscribe(client, pid \\ self()), do: :gen_driver_tcp.subscribe(client, pid)

  @doc """
  No more notes.

      :ok = GenDriver.unsubscribe(Sensor, ref)
  """
  @spec unsubscribe(client, reference()) :: :ok
  defdelegate unsubscribe(client, ref), to: :gen_driver_tcp
end
