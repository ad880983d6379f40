# SPDX-License-Identifier: MIT
# Streams are lazy, wait for their reader, and end with it.
defmodule GenDriver.StreamTest do
  use ExUnit.Case, async: true

  import Daemon

  alias GenDriver.Error

  @endless [parts: 1_000_000_000]

  setup do
    client = start_supervised!({GenDriver, connect: url(), instance: "streams"})
    :ok = GenDriver.await(client, patience())
    %{client: client}
  end

  defp enough(client) do
    none_in_flight(client)
    assert Process.info(self(), :messages) == {:messages, []}
  end

  test "all parts come, in order, whatever the reply is", %{client: client} do
    for options <- [[], [credit: 1], [credit: 1000, key: 7, timeout: patience()], patience()] do
      parts = GenDriver.stream(client, :run, [parts: 1000, reply: {:ok, 1.5}], options)
      assert Enum.to_list(parts) == Enum.to_list(0..999)
    end

    assert client |> GenDriver.stream(:run) |> Enum.to_list() == []
    enough(client)
  end

  test "nothing is called before it is read, and each reading is a call of its own", %{client: client} do
    GenDriver.stream(Nobody, :run, @endless)
    parts = GenDriver.stream(client, :run, parts: 10)
    assert {Enum.sum(parts), Enum.sum(parts)} == {45, 45}
    assert {:noproc, _} = catch_exit(Nobody |> GenDriver.stream(:run, @endless) |> Enum.take(1))
  end

  test "a reader that halts early has the call cancelled", %{client: client} do
    assert client |> GenDriver.stream(:run, @endless) |> Enum.take(100) == Enum.to_list(0..99)
    enough(client)
  end

  test "a reader that raises has the call cancelled", %{client: client} do
    reading = fn -> client |> GenDriver.stream(:run, @endless) |> Enum.each(&(&1 < 10 || raise("enough"))) end
    assert_raise RuntimeError, "enough", reading
    enough(client)
  end

  test "a reader that ends has the call cancelled", %{client: client} do
    {pid, monitor} =
      spawn_monitor(fn -> client |> GenDriver.stream(:run, @endless) |> Enum.each(&(&1 < 10 || exit(:enough))) end)

    assert_receive {:DOWN, ^monitor, :process, ^pid, :enough}, patience()
    enough(client)
  end

  test "two streams are read side by side", %{client: client} do
    count = fn -> GenDriver.stream(client, :run, [parts: 100], credit: 2) end
    assert Enum.zip(count.(), count.()) == Enum.zip(0..99, 0..99)
    enough(client)
  end

  test "no more than the credit lies unread", %{client: client} do
    unread = fn _part ->
      :pong = GenDriver.ping(client, patience())
      {:message_queue_len, waiting} = Process.info(self(), :message_queue_len)
      waiting
    end

    most =
      client |> GenDriver.stream(:run, [parts: 10_000], credit: 8) |> Stream.map(unread) |> Enum.take(200) |> Enum.max()

    assert most <= 8
  end

  test "an error at the end is raised behind the last part", %{client: client} do
    me = self()

    reading = fn ->
      client |> GenDriver.stream(:run, parts: 3, reply: {:error, :badarg}) |> Enum.each(&send(me, {:got, &1}))
    end

    error = assert_raise Error, reading
    assert %{source: :driver, reason: :badarg, command: :run} = error
    for part <- 0..2, do: assert_received({:got, ^part})
    enough(client)
  end

  test "the service's word is raised, at the end or at once", %{client: client} do
    crash = start_supervised!({GenDriver, connect: url(), instance: "crash"})
    reading = fn -> crash |> GenDriver.stream(:run, [{:parts, 10}, :segv], patience()) |> Enum.to_list() end
    assert %{source: :service, reason: :crashed, retryable: false} = assert_raise(Error, reading)

    reading = fn -> client |> GenDriver.stream(0x40000000, []) |> Enum.to_list() end
    assert %{source: :service, reason: :bad_request, retryable: true} = assert_raise(Error, reading)

    reading = fn -> client |> GenDriver.stream(:rnu, []) |> Enum.to_list() end
    assert %{source: :client, reason: {:unknown_command, "rnu"}} = assert_raise(Error, reading)
  end

  test "a fold is refused, at once", %{client: client} do
    assert_raise ArgumentError, ~r/Enum.reduce/, fn ->
      GenDriver.stream(client, :run, [], fold: {fn part, _ -> part end, 0})
    end
  end
end
