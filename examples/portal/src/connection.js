/** Whether events come, and what to do while they do not. */
import { reactive } from 'vue';

/** Milliseconds between two looks at the backend while the socket is down. */
const POLL = 5_000;
/** Time for the first connection before anybody is told of it. */
const PATIENCE = 3_000;

export const connection = reactive({
  /** pusher-js: `connecting`, `connected`, `unavailable`, `failed`, `disconnected`. */
  state: 'connecting',
  /** Whether there is something to tell. */
  isDown: false,
  /** Whether the portal's backend answered last time. */
  isReachable: true,
  /** Whether the backend no longer knows the user. */
  isSignedOut: false,
  /** Times that the connection came back. */
  returns: 0,
});

/** Calls `poll` now and then while no events come. */
export function watchConnection(poll) {
  const { connection: socket } = window.Echo.connector.pusher;
  let polling;
  let hasConnected = false;
  const show = (state) => {
    connection.state = state;
    if (state === 'connected') {
      if (connection.isDown) connection.returns += 1;
      hasConnected = true;
      connection.isDown = false;
      clearInterval(polling);
      polling = undefined;
    } else if (hasConnected) {
      fall();
    }
  };
  const fall = () => {
    connection.isDown = true;
    polling ??= setInterval(poll, POLL);
  };
  socket.bind('state_change', ({ current }) => show(current));
  show(socket.state);
  setTimeout(() => connection.state === 'connected' || fall(), PATIENCE);
}

/** Does not wait for pusher-js's next try. */
export function reconnect() {
  const { pusher } = window.Echo.connector;
  pusher.disconnect();
  pusher.connect();
}
