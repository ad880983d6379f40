# SPDX-License-Identifier: MIT
# A client, from Elixir: names, calls, casts, requests and notes.
defmodule GenDriverTest do
  use ExUnit.Case, async: true

  import Daemon

  alias GenDriver.Error

  defp client(instance, options \\ []) do
    client = start_supervised!({GenDriver, [connect: url(), instance: instance] ++ options})
    :ok = GenDriver.await(client, patience())
    client
  end

  describe "start_link/1" do
    test "takes a name as GenServer does" do
      start_supervised!({Registry, keys: :unique, name: Names})

      for name <- [ByAtom, {:global, {:by, "term"}}, {:via, Registry, {Names, "by registry"}}] do
        {:ok, pid} = GenDriver.start_link(name: name, connect: url(), instance: "sum")
        assert GenServer.whereis(name) == pid
        assert GenDriver.call!(name, :sum, [1, 2, 3, 4], patience()) == 10.0
        assert {:error, {:already_started, ^pid}} = GenDriver.start_link(name: name, connect: url(), instance: "sum")
        assert GenDriver.stop(name) == :ok
        refute Process.alive?(pid)
      end
    end

    test "needs no name" do
      {:ok, pid} = GenDriver.start_link(connect: url(), instance: :sum)
      assert GenDriver.call!(pid, :sum, [1], patience()) == 1.0
    end

    test "says which option is wrong" do
      assert GenDriver.start_link([]) == {:error, {:bad_option, {:missing, :instance}}}
      assert GenDriver.start_link(instance: "sum", cnnect: "x") == {:error, {:bad_option, {:unknown, :cnnect}}}
      assert_raise ArgumentError, ~r/:name .* got: "sum"/, fn -> GenDriver.start_link(name: "sum", instance: "sum") end
    end
  end

  test "children of one supervisor are told apart by name, or by instance" do
    ids =
      for options <- [[name: A, instance: "x"], [name: B, instance: "x"], [instance: "x"], [instance: "y"]] do
        GenDriver.child_spec(options).id
      end

    assert ids == [{GenDriver, A}, {GenDriver, B}, {GenDriver, "x"}, {GenDriver, "y"}]
  end

  describe "calls" do
    setup do: %{sum: client("sum"), streams: client("streams")}

    test "give what the driver says", %{sum: sum, streams: streams} do
      assert GenDriver.call(sum, :sum, [1, 2, 3, 4]) == {:ok, 10.0}
      assert GenDriver.call(sum, "sum", [1, 2, 3, 4], patience()) == {:ok, 10.0}
      assert GenDriver.call(sum, 1, [1, 2, 3, 4], timeout: patience(), key: 7) == {:ok, 10.0}
      assert GenServer.call(sum, {:port, 1, [1, 2, 3, 4]}) == {:ok, 10.0}
      assert GenDriver.call(streams, :run) == :ok
    end

    test "with ! give the value, or what else it is", %{sum: sum, streams: streams} do
      assert GenDriver.call!(sum, :sum, [1, 2, 3, 4]) == 10.0
      assert GenDriver.call!(streams, :run) == :ok
      assert GenDriver.call!(streams, :run, reply: %{"a" => 1}) == %{"a" => 1}
      assert GenDriver.call!(streams, :run, [reply: {:ok, nil}], timeout: patience()) == nil
    end

    test "with ! raise what the driver says is an error", %{streams: streams} do
      error = assert_raise Error, fn -> GenDriver.call!(streams, :run, reply: {:error, :badarg}) end
      assert %{source: :driver, reason: :badarg, command: :run, retryable: false} = error
      assert Exception.message(error) == "command :run: the driver says {:error, :badarg}"
    end

    test "with ! raise the service's word", %{sum: sum} do
      crash = client("crash")
      error = assert_raise Error, fn -> GenDriver.call!(crash, :run, [:segv], patience()) end
      assert %{source: :service, reason: :crashed, command: :run, retryable: false} = error
      assert Exception.message(error) == "command :run failed: crashed, the driver crashed in it; it may have run"

      error = assert_raise Error, fn -> GenDriver.call!(sum, 0x40000000, []) end
      assert %{source: :service, reason: :bad_request, retryable: true} = error

      assert Exception.message(error) ==
               "command 1073741824 failed: bad_request, its command or params are not taken; it never started"
    end

    test "with ! raise a name that the driver has not declared", %{sum: sum} do
      assert GenDriver.call(sum, :smu, []) == {:error, {:unknown_command, "smu"}}
      error = assert_raise Error, fn -> GenDriver.call!(sum, :smu, []) end
      assert %{source: :client, reason: {:unknown_command, "smu"}, command: :smu, retryable: false} = error
      assert Exception.message(error) == ~s(the driver declares no command "smu")
    end

    test "exit where there is no client" do
      assert {:noproc, _} = catch_exit(GenDriver.call(Nobody, :sum, []))
      assert {:noproc, _} = catch_exit(GenDriver.call!(Nobody, :sum, []))
    end
  end

  test "retryable? tells what certainly never started" do
    assert GenDriver.retryable?({:error, {:failed, :overloaded}})
    refute GenDriver.retryable?({:error, {:failed, :crashed}})
    refute GenDriver.retryable?({:ok, 1})
  end

  test "a daemon that is away is told, and costs no client" do
    {:ok, listener} = :gen_tcp.listen(0, ip: {127, 0, 0, 1})
    {:ok, port} = :inet.port(listener)
    :ok = :gen_tcp.close(listener)
    away = start_supervised!({GenDriver, connect: {:tcp, {127, 0, 0, 1}, port}, instance: "sum", connect_wait: 0})
    assert {:error, _} = GenDriver.await(away)
    assert GenDriver.call(away, :sum, [1]) == {:error, {:failed, :unavailable}}
    assert GenDriver.cast(away, :sum, [1], ack: true) == {:error, {:failed, :unavailable}}
    assert GenDriver.ping(away) == {:error, :unavailable}
    assert %{status: :connecting} = GenDriver.info(away)
  end

  test "casts reach the driver, acknowledged or not" do
    ledger = client("streams")
    {:ok, ref} = GenDriver.subscribe(ledger)
    assert GenDriver.cast(ledger, :note, 1) == :ok
    assert_receive {:gen_driver_note, ^ref, 1}, patience()
    assert GenDriver.cast(ledger, :note, 2, ack: true) == :ok
    assert_receive {:gen_driver_note, ^ref, 2}, patience()
    assert GenDriver.cast(ledger, :takes) == :ok
    assert_raise ErlangError, ~r/bad_option/, fn -> GenDriver.cast(ledger, :note, 3, ack: :maybe) end
  end

  test "a client that is up says so" do
    sum = client("sum")
    assert GenDriver.ping(sum, patience()) == :pong
    assert %{status: :up, instance: "sum", connects: 1} = GenDriver.info(sum)
  end

  describe "requests" do
    setup do: %{sum: client("sum")}

    test "are answered when they are waited for", %{sum: sum} do
      requests = for n <- 1..10, do: GenDriver.send_request(sum, :sum, [n, n], timeout: patience())
      answers = for request <- requests, do: GenDriver.receive_response(request, patience())
      assert answers == for(n <- 1..10, do: {:reply, {:ok, 2.0 * n}})
    end

    test "can be waited for again", %{sum: sum} do
      request = GenDriver.send_request(sum, :sum, [1, 2])
      answer = with :timeout <- GenDriver.wait_response(request, 0), do: GenDriver.wait_response(request, patience())
      assert answer == {:reply, {:ok, 3.0}}
    end

    test "are answered in a message", %{sum: sum} do
      request = GenDriver.send_request(sum, :sum, [1, 2])
      assert GenDriver.check_response(:another, request) == :no_reply
      assert_receive message, patience()
      assert GenDriver.check_response(message, request) == {:reply, {:ok, 3.0}}
    end
  end

  test "notes come to who subscribed, until it has enough" do
    streams = client("streams")
    {:ok, ref} = GenDriver.subscribe(streams)
    assert GenDriver.call!(streams, :note, {:for, "you"}, patience()) == 1
    assert_receive {:gen_driver_note, ^ref, {:for, "you"}}, patience()
    assert GenDriver.unsubscribe(streams, ref) == :ok
    assert GenDriver.call!(streams, :note, :nobody, patience()) == 0
    refute_received {:gen_driver_note, _, _}
  end
end
