// The Socket.IO client for Java and Android. It has no recovery, so join with `after` at every connect.
import io.socket.client.Ack;
import io.socket.client.IO;
import io.socket.client.Socket;
import java.net.URI;
import java.util.Map;
import org.json.JSONObject;

public class SocketIo {
  static volatile String last; // the newest cursor that was handled

  public static void main(String[] args) {
    IO.Options options = new IO.Options();
    options.auth = Map.of("legacy", "false");
    Socket socket = IO.socket(URI.create("http://localhost:4003"), options);
    socket.on(Socket.EVENT_CONNECT, nothing -> {
      JSONObject from = new JSONObject(last == null ? Map.of() : Map.of("after", last));
      socket.emit("join-tenant", "tenant-1", from, (Ack) answer -> System.out.println("joined " + answer[0]));
    });
    socket.on("messages.new", arguments -> {
      System.out.println("messages.new " + arguments[1] + " " + ((JSONObject) arguments[0]).optString("messageId"));
      last = (String) arguments[1];
    });
    socket.on("bridge.reset", arguments -> {
      System.out.println("events are lost, read the state: " + arguments[0]);
      last = ((JSONObject) arguments[0]).optString("cursor");
    });
    socket.connect();
  }
}
