# SPDX-License-Identifier: MIT
# Pools and clusters are called as clients are.
defmodule GenDriver.PoolTest do
  use ExUnit.Case, async: true

  import Daemon

  alias GenDriver.{Cluster, Error, Pool}

  defp pool(name, instance) do
    # Temporary: one that is stopped stays so.
    options = [name: name, instance: instance, endpoints: [url()], size: 2]
    start_supervised!(Supervisor.child_spec({Pool, options}, restart: :temporary))
    for %{pid: member} <- Pool.info(name).members, do: :ok = GenDriver.await(member, patience())
    name
  end

  test "a pool calls its members" do
    pool = pool(Sums, "sum")
    assert Pool.call(pool, :sum, [1, 2, 3, 4]) == {:ok, 10.0}
    assert Pool.call!(pool, :sum, [1, 2, 3, 4], key: {:any, "term"}, timeout: patience()) == 10.0
    assert Pool.cast(pool, :sum, [1], ack: true) == :ok
    assert %{instance: "sum", members: [%{status: :up}, %{status: :up}]} = Pool.info(pool)
    error = assert_raise Error, fn -> Pool.call!(pool, :smu, []) end
    assert %{source: :client, command: :smu} = error
    assert Pool.stop(pool) == :ok
    assert {:noproc, _} = catch_exit(Pool.call!(pool, :sum, []))
  end

  test "a pool gives streams" do
    pool = pool(Streams, "streams")
    assert pool |> Pool.stream(:run, [parts: 100], key: :mine, credit: 4) |> Enum.sum() == 4950
    assert pool |> Pool.stream(:run, parts: 1_000_000_000) |> Enum.take(3) == [0, 1, 2]
    for %{pid: member} <- Pool.info(pool).members, do: none_in_flight(member)
    assert_raise Error, fn -> pool |> Pool.stream(:run, reply: {:error, :badarg}) |> Enum.to_list() end
  end

  test "pools of one supervisor are told apart, and are supervisors" do
    assert %{id: {Pool, A}, type: :supervisor, shutdown: :infinity} = Pool.child_spec(name: A, instance: "sum")
    assert %{id: {Pool, "sum"}} = Pool.child_spec(instance: "sum")
  end

  # Of an instance that no other test has a pool of.
  test "a cluster calls the members of pools by their instance's name" do
    assert Cluster.call("echo", 1, []) == {:error, {:failed, :unavailable}}
    assert %{source: :service, retryable: true} = assert_raise(Error, fn -> Cluster.call!("echo", 1, [], 0) end)
    pool = pool(Echoes, "echo")
    assert Enum.sort(Cluster.members("echo")) == Enum.sort(for member <- Pool.info(pool).members, do: member.pid)
    assert Cluster.call("echo", 1, "hello") == {:ok, "hello"}
    assert Cluster.call!(:echo, 1, "hello", key: 7) == "hello"
    assert Cluster.cast("echo", 1, "hello", ack: true) == :ok
  end

  test "a cluster without the application is told in one sentence" do
    error = Error.of({:error, {:not_started, :gen_driver_tcp}}, :sum)
    assert %{source: :client, retryable: false} = error
    assert Exception.message(error) == "command :sum was not called: the application :gen_driver_tcp is not started"
  end
end
