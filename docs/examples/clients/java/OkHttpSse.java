// okhttp-sse (the same in Kotlin): it does not reconnect by itself, and OkHttp's read time-out of 10 s is too short.
import java.time.Duration;
import java.util.concurrent.Executors;
import java.util.concurrent.ScheduledExecutorService;
import java.util.concurrent.TimeUnit;
import okhttp3.OkHttpClient;
import okhttp3.Request;
import okhttp3.Response;
import okhttp3.sse.EventSource;
import okhttp3.sse.EventSourceListener;
import okhttp3.sse.EventSources;
import org.json.JSONObject;

public class OkHttpSse extends EventSourceListener {
  // Heartbeats come every 15 s, so a stream that is silent for longer is dead.
  final OkHttpClient client = new OkHttpClient.Builder().readTimeout(Duration.ofSeconds(35)).build();
  final ScheduledExecutorService later = Executors.newSingleThreadScheduledExecutor();
  volatile String last; // the newest cursor that was handled

  void listen() {
    Request.Builder request = new Request.Builder().url("http://localhost:4003/sse?tenantId=tenant-1&legacy=false");
    if (last != null) request.header("Last-Event-ID", last);
    EventSources.createFactory(client).newEventSource(request.build(), this);
  }

  @Override
  public void onEvent(EventSource source, String id, String type, String data) {
    try {
      if ("messages.new".equals(type)) {
        System.out.println(type + " " + id + " " + new JSONObject(data).getString("messageId"));
      } else if ("bridge.reset".equals(type)) {
        System.out.println("events are lost, read the state: " + data);
      }
    } catch (org.json.JSONException error) {
      throw new IllegalStateException(error);
    }
    if (id != null) last = id;
  }

  @Override
  public void onClosed(EventSource source) {
    later.schedule(this::listen, 2, TimeUnit.SECONDS);
  }

  @Override
  public void onFailure(EventSource source, Throwable error, Response response) {
    System.out.println("reconnecting: " + (error != null ? error : response));
    later.schedule(this::listen, 2, TimeUnit.SECONDS);
  }

  public static void main(String[] args) {
    new OkHttpSse().listen();
  }
}
