import { createApp } from 'vue';
import App from './App.vue';
import './echo.js';
import './style/base.css';
import './style/controls.css';
import './style/layout.css';
import './style/conversations.css';
import './style/thread.css';
import './style/composer.css';
import './style/dialogs.css';

createApp(App).mount('#app');
