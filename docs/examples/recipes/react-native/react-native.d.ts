/** What live.ts uses of React Native, whose package is too large to install for it. Your application has the real types. */
declare module 'react-native' {
  type AppStateStatus = 'active' | 'background' | 'inactive' | 'extension' | 'unknown';
  export const AppState: {
    addEventListener(type: 'change', listener: (state: AppStateStatus) => void): { remove(): void };
  };
}
